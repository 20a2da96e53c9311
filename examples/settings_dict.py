"""All pools described in one plain dict, read once at start-up."""

import oddjob

SETTINGS = {
    "default_pool": "work",
    "pool_size": 8,  # what is said here holds for every pool that does not say otherwise
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

    mistaken = {"extra_pools": [{"external_api": {"pool_sise": 2}}]}
    try:
        oddjob.configure(mistaken)
    except oddjob.SettingsError as error:
        complaint = str(error)
        print("refused:", complaint)

    assert oddjob.await_(job) == (3, 2)
    assert "did you mean 'pool_size'?" in complaint
    assert not oddjob.pools(), "a settings dict is taken whole or not at all"


if __name__ == "__main__":
    main()
