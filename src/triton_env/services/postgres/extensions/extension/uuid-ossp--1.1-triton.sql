/* uuid-ossp of triton-env: the functions of the real one, in SQL, for servers that are built without it. */

\echo Use '''CREATE EXTENSION "uuid-ossp"''' to load this file. \quit

-- As the real one has it: dumps take it along to servers that have the real one.
COMMENT ON EXTENSION "uuid-ossp" IS 'generate universally unique identifiers (UUIDs)';

-- https://www.rfc-editor.org/rfc/rfc9562#name-namespace-id-usage-and-allo
CREATE FUNCTION uuid_nil() RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN '00000000-0000-0000-0000-000000000000'::uuid;

CREATE FUNCTION uuid_ns_dns() RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN '6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid;

CREATE FUNCTION uuid_ns_url() RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN '6ba7b811-9dad-11d1-80b4-00c04fd430c8'::uuid;

CREATE FUNCTION uuid_ns_oid() RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN '6ba7b812-9dad-11d1-80b4-00c04fd430c8'::uuid;

CREATE FUNCTION uuid_ns_x500() RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN '6ba7b814-9dad-11d1-80b4-00c04fd430c8'::uuid;

CREATE FUNCTION uuid_generate_v4() RETURNS uuid
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE RETURN gen_random_uuid();

-- Tenths of microseconds since 1582-10-15. The clock sequence and the node are random in each call, the latter with the
-- multicast bit, as for a machine without a network card: no state is shared between calls.
CREATE FUNCTION uuid_generate_v1mc() RETURNS uuid
LANGUAGE plpgsql VOLATILE STRICT PARALLEL SAFE SET search_path = pg_catalog AS $$
DECLARE
    random constant bytea := uuid_send(gen_random_uuid());
    ticks constant bytea := int8send(
        ((extract(epoch FROM clock_timestamp()) + 12219292800) * 10000000)::bigint + get_byte(random, 0) % 10);
    node constant bytea := substring(random FROM 11);
    version constant bytea := substring(ticks FROM 1 FOR 2);
BEGIN
    RETURN encode(
        substring(ticks FROM 5) || substring(ticks FROM 3 FOR 2)
        || set_byte(version, 0, (get_byte(version, 0) & 15) | 16)
        || substring(random FROM 9 FOR 2) || set_byte(node, 0, get_byte(node, 0) | 1), 'hex')::uuid;
END $$;

CREATE FUNCTION uuid_generate_v1() RETURNS uuid
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE RETURN uuid_generate_v1mc();

-- The first 16 bytes of a hash with the version and the variant.
CREATE FUNCTION triton_uuid_of_hash(hash bytea, version int) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN encode(
    set_byte(
        set_byte(substring(hash FROM 1 FOR 16), 6, (get_byte(hash, 6) & 15) | (version * 16)),
        8, (get_byte(hash, 8) & 63) | 128),
    'hex')::uuid;

-- https://www.rfc-editor.org/rfc/rfc3174; no function of the server has it.
CREATE FUNCTION triton_uuid_sha1(message bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog AS $$
DECLARE
    mask constant bigint := 4294967295;
    size constant bigint := length(message);
    padded constant bytea := message || '\x80'::bytea
        || decode(repeat('00', ((119 - size % 64) % 64)::int), 'hex') || int8send(size * 8);
    h bigint[] := ARRAY[1732584193, 4023233417, 2562383102, 271733878, 3285377520];
    w bigint[];
    a bigint; b bigint; c bigint; d bigint; e bigint; x bigint;
BEGIN
    FOR block IN 0 .. length(padded) / 64 - 1 LOOP
        FOR t IN 1 .. 16 LOOP
            w[t] := ('x' || encode(substring(padded FROM block * 64 + t * 4 - 3 FOR 4), 'hex'))::bit(32)::bigint;
        END LOOP;
        FOR t IN 17 .. 80 LOOP
            x := w[t - 3] # w[t - 8] # w[t - 14] # w[t - 16];
            w[t] := ((x << 1) | (x >> 31)) & mask;
        END LOOP;
        a := h[1]; b := h[2]; c := h[3]; d := h[4]; e := h[5];
        FOR t IN 1 .. 80 LOOP
            x := CASE
                WHEN t <= 20 THEN ((b & c) | ((~b) & d)) + 1518500249
                WHEN t <= 40 THEN (b # c # d) + 1859775393
                WHEN t <= 60 THEN ((b & c) | (b & d) | (c & d)) + 2400959708
                ELSE (b # c # d) + 3395469782
            END;
            x := ((((a << 5) | (a >> 27)) & mask) + (x & mask) + e + w[t]) & mask;
            e := d; d := c; c := ((b << 30) | (b >> 2)) & mask; b := a; a := x;
        END LOOP;
        h := ARRAY[(h[1] + a) & mask, (h[2] + b) & mask, (h[3] + c) & mask, (h[4] + d) & mask, (h[5] + e) & mask];
    END LOOP;
    RETURN (SELECT string_agg(substring(int8send(word) FROM 5), ''::bytea ORDER BY place)
            FROM unnest(h) WITH ORDINALITY AS words (word, place));
END $$;

CREATE FUNCTION uuid_generate_v3(namespace uuid, name text) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_uuid_of_hash(
    decode(md5(uuid_send(namespace) || convert_to(name, getdatabaseencoding())), 'hex'), 3);

CREATE FUNCTION uuid_generate_v5(namespace uuid, name text) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_uuid_of_hash(
    triton_uuid_sha1(uuid_send(namespace) || convert_to(name, getdatabaseencoding())), 5);
