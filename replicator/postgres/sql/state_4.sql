-- Version 4: what a later session needs to know of a log's order, and more. Upgrades version 3 in place.

ALTER TABLE replicator.partition ADD COLUMN mark text;
COMMENT ON COLUMN replicator.partition.mark IS
    'Newest source.sequence that is applied: LSN of the commit before, of the event, and how many events have had these';
