"""Every type of PostgreSQL and contrib, with values that are easily spoilt on the way.

The schema is `crm`; the values of regclass ask for a table `crm.here`.
"""

VALUES = {
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648"],
    "bigint": ["9223372036854775807"],
    "numeric": ["NaN", "1e-30", "123456789012345678901234567890.123456789", "0.00", "-0.10"],
    "numeric(10,2)": ["1.50", "-99999999.99"],
    "real": ["NaN", "-Infinity", "-0", "3.4028235e38", "1e-45"],
    "double precision": ["0.1", "5e-324", "1.7976931348623157e308", "-0", "Infinity"],
    "money": ["-12.30", "92233720368547758.07"],
    "text": ["", "NULL", "a\\b\t\n\r'\"{},", "\U0001f600é\u0301"],
    "varchar(5)": ["ab   ", "\U0001f600"],
    "character(5)": ["a", "a b", ""],
    '"char"': ["a", ""],
    "name": ["x" * 63],
    "bytea": ["\\x00ff5c27", "\\x"],
    "boolean": ["t", "f"],
    "date": ["infinity", "-infinity", "0044-03-15 BC", "5874897-12-31"],
    "time": ["24:00:00", "23:59:59.999999"],
    "time(0) with time zone": ["23:59:59+15:59"],
    "timestamp": ["infinity", "4713-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999"],
    "timestamptz": ["2024-02-29 12:00:00.123456+00", "-infinity", "0001-01-01 00:00:00+00 BC"],
    "interval": ["-1 years -2 mons +3 days -04:05:06.789", "1 day", "24:00:00", "00:00:00"],
    "interval hour to minute": ["25:59:00"],
    "uuid": ["00000000-0000-0000-0000-000000000000"],
    "json": ['{"b": 1,  "a": [1.0, null], "a": 2}', '"\\u0001"', "1.10"],
    "jsonb": ['{"a": 1.10, "b": [null, ""]}', '"\\\\"', "null"],
    "xml": ["<a>&lt;</a>", "text"],
    "bit(3)": ["101"],
    "bit varying(5)": ["", "10101"],
    "inet": ["10.0.0.1/8", "::ffff:1.2.3.4/128"],
    "cidr": ["10.0.0.0/8"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "point": ["(1.5,-2)", "(NaN,Infinity)"],
    "line": ["{1,-1,0}"],
    "lseg": ["[(1,2),(3,4)]"],
    "box": ["(3,4),(1,2)"],
    "path": ["((1,2),(3,4))", "[(1,2)]"],
    "polygon": ["((0,0),(1,1),(1,0))"],
    "circle": ["<(1,2),3>"],
    "tsvector": ["'a':1A,2 'it''s':3", ""],
    "tsquery": ["'a' & !( 'b' | 'c':* ) <-> 'd'"],
    "int4range": ["empty", "[1,10)", "(,)"],
    "tstzrange": ['["2024-01-01 00:00:00+00",infinity)'],
    "numrange": ["(1.10,2.0]"],
    "daterange": ["[2024-01-01,infinity)"],
    "tsmultirange": ['{["2024-01-01 00:00:00","2024-01-02 00:00:00")}'],
    "int8multirange": ["{}", "{[1,3),[5,)}"],
    "oid": ["4294967295"],
    "xid": ["4294967295"],
    "xid8": ["18446744073709551615"],
    "tid": ["(4294967295,65535)"],
    "pg_lsn": ["FFFFFFFF/FFFFFFFF"],
    "pg_snapshot": ["10:20:10,14,15"],
    "txid_snapshot": ["10:20:10,14,15"],
    "regclass": ["pg_catalog.pg_class", "crm.here"],
    "regtype": ["integer", "public.citext", "timestamp with time zone"],
    "regproc": ["pg_catalog.now"],
    "regprocedure": ["pg_catalog.abs(integer)"],
    "regoper": ["pg_catalog.||/"],
    "regrole": ["postgres"],
    "regnamespace": ["crm"],
    "regconfig": ["pg_catalog.english"],
    "oidvector": ["1 2 3", ""],
    "int2vector": ["1 -2"],
    "jsonpath": ['$."a"[*]?(@ > 1)'],
    "crm.mood": ["it's", 'so "so"', "{odd, \\}", "NULL"],
    "crm.pair": ['(1,"a ""b"" \\\\ , c")', "(,)", '(,"")'],
    "crm.positive": ["1.250"],
    "crm.flags": ["{1,NULL,3}", "{}"],
    "crm.span": ['["a b","c,d")'],
    "crm.pairs[]": ['{"(\\"{\\"\\"(1,x)\\"\\"}\\")"}'],
    "integer[]": ["{}", "{1,NULL,3}", "[0:1]={5,6}", "{{1,2},{3,4}}"],
    "text[]": ['{"",NULL,"NULL","a\\"b","{x}","\\\\"}'],
    "timestamptz[]": ['{"2024-01-01 00:00:00+00",infinity}'],
    "numeric(6,2)[]": ["{1.50,NaN}"],
    "character(3)[]": ['{"a  ","b  "}'],
    "crm.coins": ['{"(1,1.250)"}'],
    'crm."Odd.Type, {}"': ["(2,b)"],
    'crm."Odd.Type, {}"[]': ['{"(2,b)"}'],
    "bytea[]": ['{"\\\\x00ff",NULL}'],
    "interval[]": ['{"1 mon","-00:00:01"}'],
    "jsonb[]": ['{"{\\"a\\": [1, 2]}"}'],
    "refcursor": ["c"],
    "cid": ["7"],
    "aclitem": ["postgres=arwd*/postgres"],
    "crm.mood[]": ['{it\'s,"so \\"so\\""}'],
    "public.hstore": ['"a"=>"1", "b"=>NULL, "c d"=>"\\"q\\""', ""],
    "public.citext": ["MiXed", "mixed"],
    "public.ltree": ["Top.Science.Astronomy", ""],
    "public.lquery": ["*.a*|b{1,2}"],
    "public.ltxtquery": ["Europe & Russia*@"],
    "public.cube": ["(1, 2),(3, 4)"],
    "public.seg": ["1.0 .. 2.50", "~1.20"],
    "public.isbn13": ["978-0-11-000533-1"],
    "public.ean13": ["978-0-11-000533-1"],
    "public.issn": ["1436-4522"],
    "public.upc": ["220356483481"],
    "public.hstore[]": ['{"\\"a\\"=>\\"1\\"",""}'],
    "public.citext[]": ["{Aa,NULL}"],
    "public.lo": ["12345"],
    "public.query_int": ["1 & !( 2 | 3 )"],
}
SCHEMA = """
    CREATE SCHEMA crm;
    CREATE EXTENSION hstore SCHEMA public; CREATE EXTENSION citext SCHEMA public;
    CREATE EXTENSION ltree SCHEMA public; CREATE EXTENSION cube SCHEMA public; CREATE EXTENSION seg SCHEMA public;
    CREATE EXTENSION isn SCHEMA public; CREATE EXTENSION intarray SCHEMA public;
    CREATE EXTENSION lo SCHEMA public;
    CREATE TYPE crm.mood AS ENUM ('it''s', 'so "so"', '{odd, \\}', 'NULL');
    CREATE TYPE crm.pair AS (a int, b text);
    CREATE TYPE crm.pairs AS (list crm.pair[]);
    CREATE TYPE crm.span AS RANGE (subtype = text);
    CREATE DOMAIN crm.positive AS numeric(10,3) CHECK (value > 0);
    CREATE DOMAIN crm.flags AS int[];
    CREATE DOMAIN crm.small AS crm.positive CHECK (value < 100);
    CREATE TYPE crm.coin AS (kind int, worth crm.small);
    CREATE DOMAIN crm.coins AS crm.coin[];
    CREATE TYPE crm."Odd.Type, {}" AS (n int, mood text);
"""
NO_XML = {"xml"}  # the embedded server is built without libxml
