-- For the way back: permissions become part of their user again, so an old row in the change stream must say whose it
-- was.
ALTER TABLE crm.user_permissions REPLICA IDENTITY USING INDEX user_permissions_user_id_permission_key;
