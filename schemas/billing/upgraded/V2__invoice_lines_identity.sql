-- The same as on the old side, for the way back.
CREATE UNIQUE INDEX invoice_lines_identity ON billing.invoice_lines (invoice_id, id);
ALTER TABLE billing.invoice_lines REPLICA IDENTITY USING INDEX invoice_lines_identity;
