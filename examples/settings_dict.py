"""Describe all pools in one plain dict, and read it once at start-up."""

from typing import Any

import oddjob

SETTINGS: oddjob.Settings = {
    "default_pool": "work",
    "pool_size": 8,  # the default for every pool
    "max_restarts": 10,
    "extra_pools": [
        "email",
        {"external_api": {"pool_size": 2, "max_restarts": 1}},
    ],
}


def main() -> None:
    """Configure the pools, use two of them, and make a mistake."""
    oddjob.configure(SETTINGS)
    for name, pool in oddjob.pools().items():
        options = pool.configuration
        print(f"{name:14} {options.pool_size:2} workers, {options.max_restarts:2} restarts")

    oddjob.perform("email", print, "hello from the email pool")
    job = oddjob.async_perform("external_api", divmod, 17, 5)
    print("17 divided by 5:", oddjob.await_(job))
    oddjob.shutdown_all()

    mistaken: Any = {"extra_pools": [{"external_api": {"pool_sise": 2}}]}
    try:
        oddjob.configure(mistaken)
    except oddjob.SettingsError as error:
        message = str(error)
        print("refused:", message)

    assert oddjob.await_(job) == (3, 2)
    assert "did you mean 'pool_size'?" in message
    assert not oddjob.pools(), "settings are applied as a whole or not at all"


if __name__ == "__main__":
    main()
