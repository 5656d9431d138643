-- Lines go with their invoice. When one is deleted, or moves to another invoice, only its old row in the change stream
-- says which invoice it left, so that row must contain invoice_id.
CREATE UNIQUE INDEX invoice_lines_identity ON invoice_lines (invoice_id, id);
ALTER TABLE invoice_lines REPLICA IDENTITY USING INDEX invoice_lines_identity;
