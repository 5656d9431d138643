"""Fixtures come from the plugins beside this file: one file a subject."""

from hypothesis import HealthCheck, settings

pytest_plugins = (
    "tests.fix_connect",
    "tests.fix_postgres",
    "tests.fix_proxy",
    "tests.fix_replicator",
    "tests.fix_slot",
    "tests.fix_target",
    "tests.fix_group",
    "tests.fix_migration",
    "tests.fix_kafka",
    "tests.fix_capture",
    "tests.fix_kafka_source",
    "tests.fix_pipeline",
)

# A test asserts no times: on a busy machine any example may take long. What fails prints how to run it again.
settings.register_profile("replicator", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("replicator")
