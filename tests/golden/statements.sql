-- insert
INSERT INTO "crm"."orders" AS t ("id", "note", "total") SELECT v."v1"::bigint, v."v2", v."v3"::numeric FROM unnest($1::text[], $2::text[], $3::text[]) AS v("v1", "v2", "v3");

-- upsert
INSERT INTO "crm"."orders" AS t ("id", "note", "total") SELECT v."v1"::bigint, v."v2", v."v3"::numeric FROM unnest($1::text[], $2::text[], $3::text[]) AS v("v1", "v2", "v3") ON CONFLICT ("id") DO UPDATE SET "note" = EXCLUDED."note", "total" = EXCLUDED."total";

-- upsert of nothing but the key
INSERT INTO "crm"."orders" AS t ("id") SELECT v."v1"::bigint FROM unnest($1::text[]) AS v("v1") ON CONFLICT ("id") DO NOTHING;

-- upsert into a partitioned table
INSERT INTO "crm"."orders" AS t ("id", "note") SELECT v."v1"::bigint, v."v2" FROM unnest($1::text[], $2::text[]) AS v("v1", "v2") ON CONFLICT ("id") DO UPDATE SET "note" = EXCLUDED."note";

-- upsert without an arbiter (all_rows)
WITH given AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS v("v1", "v2", "v3", "vn")), hit AS (UPDATE ONLY "crm"."orders" AS t SET "note" = v."v2", "total" = v."v3"::numeric FROM given AS v WHERE "t"."id" = v."v1"::bigint RETURNING v."vn") INSERT INTO "crm"."orders" ("id", "note", "total") SELECT v."v1"::bigint, v."v2", v."v3"::numeric FROM given AS v WHERE v."vn" NOT IN (SELECT hit."vn" FROM hit);

-- upsert with an identity column
INSERT INTO "My schema"."we""ird.Table" AS t ("Order", "v1", "a""b", "doc") OVERRIDING SYSTEM VALUE SELECT v."v_1"::bigint, v."v_2"::public.citext, v."v_3"::bpchar, v."v_4"::json FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS v("v_1", "v_2", "v_3", "v_4") ON CONFLICT ("v1") DO UPDATE SET "v1" = EXCLUDED."v1", "a""b" = EXCLUDED."a""b", "doc" = EXCLUDED."doc";

-- update (ordinals)
UPDATE ONLY "crm"."orders" AS t SET "total" = v."v2"::numeric FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS v("v1", "v2", "vn") WHERE "t"."id" = v."v1"::bigint RETURNING v."vn";

-- update of a partitioned table (ordinals)
UPDATE "crm"."orders" AS t SET "total" = v."v2"::numeric FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS v("v1", "v2", "vn") WHERE "t"."id" = v."v1"::bigint RETURNING v."vn";

-- update of nothing (ordinals)
SELECT v."vn" FROM unnest($1::text[]) WITH ORDINALITY AS v("v1", "vn") JOIN ONLY "crm"."orders" AS t ON "t"."id" = v."v1"::bigint;

-- update by citext (ordinals)
UPDATE ONLY "My schema"."we""ird.Table" AS t SET "v1" = v."v_1"::public.citext, "doc" = v."v_3"::json FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS v("v_1", "v_2", "v_3", "v_n") WHERE "t"."v1" OPERATOR("public".=) v."v_1"::public.citext RETURNING v."v_n";

-- delete
DELETE FROM ONLY "crm"."orders" AS t USING unnest($1::text[]) AS v("v1") WHERE "t"."id" = v."v1"::bigint;

-- delete of owned rows
DELETE FROM ONLY "crm"."orders" AS t USING unnest($1::text[]) AS v("v1") WHERE "t"."id" = v."v1"::bigint AND (note IS NULL);

-- delete of a child (sets)
DELETE FROM ONLY "crm"."lines" AS t USING unnest($1::text[]) AS v("v1") WHERE "t"."order_id" = v."v1"::bigint AND EXISTS (SELECT FROM ONLY "crm"."orders" AS r WHERE "r"."id" = "t"."order_id" AND (note IS NULL));

-- prune by key (sets)
DELETE FROM ONLY "crm"."lines" AS t USING unnest($1::text[]) AS k("vk1") WHERE "t"."order_id" = k."vk1"::bigint AND NOT EXISTS (SELECT FROM unnest($2::text[], $3::text[]) AS v("v1", "v2") WHERE "t"."order_id" = v."v1"::bigint AND "t"."sku" = v."v2"::character varying);

-- prune all (sets)
DELETE FROM ONLY "crm"."lines" AS t USING unnest($1::text[]) AS k("vk1") WHERE "t"."order_id" = k."vk1"::bigint;

-- prune a multiset (sets)
WITH given AS (SELECT ARRAY[v."v_1"::public.citext::text COLLATE "C", v."v_2"::json::text COLLATE "C"] AS whole, row_number() OVER (PARTITION BY ARRAY[v."v_1"::public.citext::text COLLATE "C", v."v_2"::json::text COLLATE "C"]) AS nth FROM unnest($2::text[], $3::text[]) AS v("v_1", "v_2")), there AS (SELECT t.ctid AS place, t.tableoid AS part, ARRAY["t"."v1"::text COLLATE "C", "t"."doc"::text COLLATE "C"] AS whole, row_number() OVER (PARTITION BY ARRAY["t"."v1"::text COLLATE "C", "t"."doc"::text COLLATE "C"]) AS nth FROM ONLY "My schema"."we""ird.Table" AS t JOIN unnest($1::text[]) AS k("v_k1") ON "t"."v1" OPERATOR("public".=) k."v_k1"::public.citext AND "t"."v1"::text COLLATE "C" = k."v_k1"::public.citext::text COLLATE "C") DELETE FROM ONLY "My schema"."we""ird.Table" AS t USING there WHERE t.ctid = there.place AND t.tableoid = there.part AND NOT EXISTS (SELECT FROM given WHERE given.whole = there.whole AND given.nth = there.nth);

-- merge by key
INSERT INTO "crm"."lines" AS t ("order_id", "sku") SELECT v."v1"::bigint, v."v2"::character varying FROM unnest($1::text[], $2::text[]) AS v("v1", "v2") ON CONFLICT ("order_id", "sku") DO NOTHING;

-- merge a multiset (sets)
WITH given AS MATERIALIZED (SELECT v.*, ARRAY[v."v_1"::public.citext::text COLLATE "C", v."v_2"::json::text COLLATE "C"] AS whole, row_number() OVER (PARTITION BY ARRAY[v."v_1"::public.citext::text COLLATE "C", v."v_2"::json::text COLLATE "C"]) AS "v_n" FROM unnest($1::text[], $2::text[]) AS v("v_1", "v_2")), there AS (SELECT ARRAY["t"."v1"::text COLLATE "C", "t"."doc"::text COLLATE "C"] AS whole, row_number() OVER (PARTITION BY ARRAY["t"."v1"::text COLLATE "C", "t"."doc"::text COLLATE "C"]) AS nth FROM ONLY "My schema"."we""ird.Table" AS t WHERE EXISTS (SELECT FROM given AS v WHERE "t"."v1" OPERATOR("public".=) v."v_1"::public.citext)) INSERT INTO "My schema"."we""ird.Table" ("v1", "doc") SELECT v."v_1"::public.citext, v."v_2"::json FROM given AS v WHERE NOT EXISTS (SELECT FROM there WHERE there.whole = v.whole AND there.nth = v."v_n");

-- append
INSERT INTO "crm"."events" AS t ("at", "body") SELECT v."v1"::timestamp with time zone, v."v2" FROM unnest($1::text[], $2::text[]) AS v("v1", "v2");

-- remove (sets)
WITH given AS MATERIALIZED (SELECT g.whole, count(*) AS many, row_number() OVER () AS nr FROM (SELECT ARRAY[v."v1"::timestamptz::text COLLATE "C", v."v2"::text::text COLLATE "C"] AS whole FROM unnest($1::text[], $2::text[]) AS v("v1", "v2")) AS g GROUP BY g.whole), found AS (SELECT f.place, f.part, given.many, row_number() OVER (PARTITION BY given.nr) AS nth FROM (SELECT t.ctid AS place, t.tableoid AS part, ARRAY["t"."at"::text COLLATE "C", "t"."body"::text COLLATE "C"] AS whole FROM ONLY "crm"."events" AS t) AS f JOIN given ON f.whole = given.whole) DELETE FROM ONLY "crm"."events" AS t USING found WHERE t.ctid = found.place AND t.tableoid = found.part AND found.nth <= found.many;

-- truncate
TRUNCATE TABLE ONLY "crm"."orders", ONLY "crm"."lines", "crm"."orders";

-- clear (sets)
DELETE FROM ONLY "crm"."orders" AS t WHERE true;

-- clear owned rows (sets)
DELETE FROM ONLY "crm"."orders" AS t WHERE true AND (note IS NULL);

-- clear a child (sets)
DELETE FROM ONLY "crm"."lines" AS t WHERE true AND EXISTS (SELECT FROM ONLY "crm"."orders" AS r WHERE "r"."id" = "t"."order_id" AND (note IS NULL));
