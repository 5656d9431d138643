"""Fixtures come from the plugins beside this file: one file a subject."""

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
