"""What pyproject.toml says of the package is so."""

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import oddjob

ROOT = Path(oddjob.__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
GROUPS: dict[str, list[Any]] = PROJECT["dependency-groups"]
CLASSIFIERS: list[str] = PROJECT["project"]["classifiers"]


def group(name: str) -> list[str]:
    """Return the packages of a group, and of those that it includes."""
    return [
        package
        for each in GROUPS[name]
        for package in ([each] if isinstance(each, str) else group(each["include-group"]))
    ]


@pytest.mark.parametrize("name", ["dev", "browser"])
def test_a_group_has_what_the_extra_of_its_name_has(name: str) -> None:
    """Whether you install by `--group dev` or by `.[dev]`, the tests have what they need."""
    assert sorted(group(name)) == sorted(EXTRAS[name])


def test_the_extra_all_has_every_other_one_for_users() -> None:
    [everything] = EXTRAS["all"]
    assert sorted(everything.removeprefix("oddjob[").removesuffix("]").split(",")) == sorted(
        EXTRAS.keys() - {"all", "browser", "dev"}
    )


def test_the_package_itself_needs_nothing_else() -> None:
    assert PROJECT["project"]["dependencies"] == []


def test_the_classifiers_name_the_pythons_that_it_runs_on() -> None:
    named = {each.rpartition(" ")[2] for each in CLASSIFIERS if ":: Python :: 3." in each}
    assert named == {"3.11", "3.12", "3.13", "3.14", "3.15"}
    assert f"3.{sys.version_info.minor}" in named
    assert PROJECT["project"]["requires-python"] == f">={min(named)}"
    assert sorted(CLASSIFIERS) == CLASSIFIERS


def test_the_marker_and_the_classifier_of_types_agree() -> None:
    assert "Typing :: Typed" in CLASSIFIERS
    assert (Path(oddjob.__file__).parent / "py.typed").is_file()
