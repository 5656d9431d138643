-- The rows that the old database of the demo begins with, the same each time. How many each table gets stands in the
-- settings demo.*; one statement a table, with an empty line between them. Descriptions and contracts don't compress,
-- so that they are TOASTed.

INSERT INTO public.countries (iso, name, legacy_id)
SELECT code, 'Country ' || code, nullif(n % 7, 0)
FROM unnest(string_to_array('AT BE BR CA CH CL CZ DE DK ES FI FR GB IE IN IT JP KE KR MX NG NL NO NZ PL PT SE TR UA US',
    ' ')) WITH ORDINALITY AS country (code, n);

INSERT INTO public.accounts (company, phone, fax, street, postal_code, city, country_iso, created_at)
SELECT (string_to_array(current_setting('demo.last_names'), ','))[1 + n % 10] || ' & Co. ' || n,
    CASE WHEN n % 5 > 0 THEN '+49 30 ' || 100000 + n END,
    CASE WHEN n % 9 = 0 THEN '+49 30 ' || 900000 + n END,
    CASE WHEN n % 11 > 0 THEN 'Main Street ' || n % 200 END,
    lpad((n * 37 % 100000)::text, 5, '0'),
    'City ' || n % 300,
    (SELECT iso FROM public.countries OFFSET n % 30 LIMIT 1),
    timestamptz '2015-01-01 00:00Z' + n * interval '1 day 3.000001 seconds'
FROM generate_series(1, current_setting('demo.accounts')::integer) n;

INSERT INTO public.users (account_id, full_name, email, role, last_login)
SELECT 1 + n % current_setting('demo.accounts')::integer,
    CASE WHEN n % 97 = 0 THEN 'Prince'
        ELSE (string_to_array(current_setting('demo.first_names'), ','))[1 + n % 12] || ' '
            || (string_to_array(current_setting('demo.last_names'), ','))[1 + n % 10] END,
    'user' || n || '@example.com',
    (enum_range(NULL::public.user_role))[1 + n * 7 % 4],
    CASE WHEN n % 3 > 0 THEN timestamptz '2024-01-01 00:00Z' + n * interval '7.000003 minutes' END
FROM generate_series(1, current_setting('demo.users')::integer) n;

INSERT INTO public.contacts (account_id, name, phone, deleted_at)
SELECT 1 + n * 13 % current_setting('demo.accounts')::integer,
    (string_to_array(current_setting('demo.first_names'), ','))[1 + n * 5 % 12],
    CASE WHEN n % 4 > 0 THEN '+41 44 ' || 200000 + n END,
    CASE WHEN n % 7 = 0 THEN timestamptz '2024-12-01 00:00Z' END
FROM generate_series(1, current_setting('demo.contacts')::integer) n;

UPDATE public.accounts a
SET primary_contact_id = contact.id
FROM (SELECT account_id, min(id) AS id FROM public.contacts WHERE deleted_at IS NULL GROUP BY account_id) contact
WHERE contact.account_id = a.id AND a.id % 2 = 0;

INSERT INTO public.products (sku, name, price, sold, tags, attributes, description)
SELECT 'SKU-' || lpad(n::text, 6, '0'),
    'Product ' || n,
    (n * 7919 % 50000 + 99) * 0.01,
    daterange(date '2020-01-01' + n % 900, CASE WHEN n % 4 > 0 THEN date '2026-01-01' + n % 300 END),
    CASE WHEN n % 3 = 0 THEN '{}' ELSE ARRAY['tag ' || n % 5, NULL, '"quoted", {braced}\'] END,
    jsonb_build_object('weight', n % 100 * 1.10, 'colours', jsonb_build_array('red', 'Grün')),
    (SELECT string_agg(md5(n || '/' || part), '') FROM generate_series(1, 40 + n % 160) part)
FROM generate_series(1, current_setting('demo.products')::integer) n;

INSERT INTO public.orders (account_id, state, total, contract, ordered_at)
SELECT 1 + n * 31 % current_setting('demo.accounts')::integer,
    (ARRAY['open', 'paid', 'shipped', 'closed'])[1 + n % 4],
    n * 6151 % 300000 * 0.01,
    CASE WHEN n % 6 = 0 THEN (SELECT string_agg(md5(n || '-' || part), '') FROM generate_series(1, 150) part) END,
    timestamptz '2024-01-01 00:00Z' + n * interval '37.123457 minutes'
FROM generate_series(1, current_setting('demo.orders')::integer) n;

INSERT INTO public.order_items (order_id, line, sku, quantity, price)
SELECT n,
    line,
    'SKU-' || lpad((1 + (n * 17 + line * 5) % current_setting('demo.products')::integer)::text, 6, '0'),
    1 + (n + line) % 9,
    n * line % 500 + 0.99
FROM generate_series(1, current_setting('demo.orders')::integer) n, generate_series(1, 2) line;

INSERT INTO public.order_notes (order_id, author, body, written_at)
SELECT 1 + n * 5 % current_setting('demo.orders')::integer,
    (string_to_array(current_setting('demo.first_names'), ','))[1 + n % 12],
    'Note ' || n || E': "fragile",\tcall \\ before',
    timestamptz '2024-06-01 00:00Z' + n * interval '1.5 minutes'
FROM generate_series(1, current_setting('demo.notes')::integer) n;

INSERT INTO public.payments (order_id, amount, method, paid_at)
SELECT 1 + n * 3 % current_setting('demo.orders')::integer,
    n * 4519 % 90000 * 0.01,
    (ARRAY['card', 'transfer', 'cash'])[1 + n % 3],
    timestamptz '2024-07-01 00:00Z' + n * interval '2 minutes'
FROM generate_series(1, current_setting('demo.payments')::integer) n;

ANALYZE;
