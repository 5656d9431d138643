-- Notes become part of their order. When one is deleted, or moves to another order, only its old row in the change
-- stream says which order it left, so that row must contain order_id. (The index serves reads by order as well.)
CREATE UNIQUE INDEX order_notes_identity ON order_notes (order_id, id);
ALTER TABLE order_notes REPLICA IDENTITY USING INDEX order_notes_identity;
