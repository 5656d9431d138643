-- The old database of the example: a CRM that grew over the years.

CREATE TYPE user_role AS ENUM ('suspended', 'viewer', 'editor', 'admin');

CREATE TABLE countries (
    iso       char(2) PRIMARY KEY,
    name      text NOT NULL,
    legacy_id integer  -- of the system before this one; nobody reads it any more
);

CREATE TABLE accounts (
    id                 bigserial PRIMARY KEY,
    company            text NOT NULL,
    phone              text,
    fax                text,
    street             text,
    postal_code        text,
    city               text,
    country_iso        char(2) NOT NULL REFERENCES countries (iso),
    primary_contact_id bigint,
    created_at         timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    id         bigserial PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES accounts (id),
    full_name  text NOT NULL,
    email      text NOT NULL UNIQUE,
    role       user_role NOT NULL DEFAULT 'viewer',
    last_login timestamptz
);

CREATE INDEX users_account ON users (account_id);

CREATE TABLE contacts (
    id         bigserial PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES accounts (id),
    name       text NOT NULL,
    phone      text,
    deleted_at timestamptz  -- deleted ones stay as rows
);

CREATE INDEX contacts_account ON contacts (account_id);

-- An account has contacts, and one of them is the first to be called: a circle.
ALTER TABLE accounts ADD CONSTRAINT accounts_primary_contact
    FOREIGN KEY (primary_contact_id) REFERENCES contacts (id) ON UPDATE CASCADE DEFERRABLE;
CREATE INDEX accounts_primary_contact_id ON accounts (primary_contact_id);

CREATE TABLE products (
    sku         text PRIMARY KEY,
    name        text NOT NULL,
    price       numeric(12, 2) NOT NULL,
    sold        daterange NOT NULL DEFAULT 'empty',
    tags        text[] NOT NULL DEFAULT '{}',
    attributes  jsonb NOT NULL,
    description text NOT NULL DEFAULT ''
);

CREATE TABLE orders (
    id         serial PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES accounts (id),
    state      text NOT NULL DEFAULT 'open',
    total      numeric(12, 2) NOT NULL DEFAULT 0,
    contract   text,  -- the whole document, often long
    ordered_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX orders_account ON orders (account_id);

CREATE TABLE order_items (
    order_id integer NOT NULL REFERENCES orders (id) ON UPDATE CASCADE ON DELETE CASCADE,
    line     integer NOT NULL,
    sku      text NOT NULL REFERENCES products (sku) ON UPDATE CASCADE,
    quantity integer NOT NULL,
    price    numeric(12, 2) NOT NULL,
    PRIMARY KEY (order_id, line)
);

CREATE INDEX order_items_sku ON order_items (sku);

CREATE TABLE order_notes (
    id         serial PRIMARY KEY,
    order_id   integer NOT NULL REFERENCES orders (id) ON UPDATE CASCADE ON DELETE CASCADE,
    author     text NOT NULL,
    body       text NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE payments (
    id       bigserial PRIMARY KEY,
    order_id integer NOT NULL REFERENCES orders (id) ON UPDATE CASCADE ON DELETE CASCADE,
    amount   numeric(12, 2) NOT NULL,
    method   text NOT NULL,
    paid_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX payments_order ON payments (order_id);
