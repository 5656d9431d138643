-- Some rows for the old side; run it as often as you like.
INSERT INTO countries (iso, name) VALUES ('AT', 'Austria'), ('DE', 'Germany'), ('NG', 'Nigeria') ON CONFLICT DO NOTHING;
INSERT INTO accounts (company, phone, street, city, country_iso)
SELECT 'Company ' || n, '+49 30 ' || n, 'Main Street ' || n, 'Berlin', 'DE' FROM generate_series(1, 1000) n;
UPDATE accounts SET company = company || ' & Co' WHERE id % 100 = 0;
