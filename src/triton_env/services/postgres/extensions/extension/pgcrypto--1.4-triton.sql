/* pgcrypto of triton-env: what core functions suffice for, for servers that are built without the real one. */

\echo Use "CREATE EXTENSION pgcrypto" to load this file. \quit

-- As the real one has it: dumps take it along to servers that have the real one.
COMMENT ON EXTENSION pgcrypto IS 'cryptographic functions';

CREATE FUNCTION triton_lacks(what text) RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL SAFE SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION '% is not in the pgcrypto of triton-env', what USING
        ERRCODE = 'feature_not_supported',
        DETAIL = 'It has digest and hmac (md5, sha1, sha224, sha256, sha384, sha512), gen_random_bytes, gen_random_uuid, '
            'crypt and gen_salt (md5), armor and dearmor.',
        HINT = 'Set TRITON_POSTGRES_BIN to the programs of a PostgreSQL that has the real one, such as the package '
            'postgresql of Debian and Ubuntu, or set TRITON_RUNTIME=docker.';
END $$;

CREATE FUNCTION triton_sha1(message bytea) RETURNS bytea
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

CREATE FUNCTION triton_xor(bytes bytea, mask int) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog AS $$
BEGIN
    FOR place IN 0 .. length(bytes) - 1 LOOP
        bytes := set_byte(bytes, place, get_byte(bytes, place) # mask);
    END LOOP;
    RETURN bytes;
END $$;

CREATE FUNCTION digest(bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN CASE lower($2)
    WHEN 'md5' THEN decode(md5($1), 'hex')
    WHEN 'sha1' THEN triton_sha1($1)
    WHEN 'sha224' THEN sha224($1)
    WHEN 'sha256' THEN sha256($1)
    WHEN 'sha384' THEN sha384($1)
    WHEN 'sha512' THEN sha512($1)
    ELSE triton_lacks('the hash ' || $2)::bytea
END;

CREATE FUNCTION digest(text, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN digest(convert_to($1, getdatabaseencoding()), $2);

-- https://www.rfc-editor.org/rfc/rfc2104
CREATE FUNCTION hmac(bytea, bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN (
    SELECT digest(triton_xor(block, 92) || digest(triton_xor(block, 54) || $1, $3), $3)
    FROM (
        SELECT key || decode(repeat('00', size - length(key)), 'hex') AS block
        FROM (
            SELECT size, CASE WHEN length($2) > size THEN digest($2, $3) ELSE $2 END AS key
            FROM (SELECT CASE WHEN lower($3) IN ('sha384', 'sha512') THEN 128 ELSE 64 END AS size) AS sizes
        ) AS keys
    ) AS blocks);

CREATE FUNCTION hmac(text, text, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN hmac(
    convert_to($1, getdatabaseencoding()), convert_to($2, getdatabaseencoding()), $3);

CREATE FUNCTION gen_random_uuid() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE RETURN pg_catalog.gen_random_uuid();

-- Hashed, since six bits of each of these are always the same.
CREATE FUNCTION gen_random_bytes(int4) RETURNS bytea
LANGUAGE plpgsql VOLATILE STRICT PARALLEL SAFE SET search_path = pg_catalog AS $$
DECLARE
    bytes bytea := '';
BEGIN
    IF $1 NOT BETWEEN 1 AND 1024 THEN
        RAISE EXCEPTION 'Length not in range' USING ERRCODE = 'external_routine_invocation_exception';
    END IF;
    WHILE length(bytes) < $1 LOOP
        bytes := bytes || sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
    END LOOP;
    RETURN substring(bytes FROM 1 FOR $1);
END $$;

-- https://www.usenix.org/legacyurl/md5-crypt
CREATE FUNCTION triton_md5_crypt(password bytea, salt bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog AS $$
DECLARE
    letters constant text := './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
    size constant int := length(password);
    content bytea := password || '$1$'::bytea || salt;
    hash bytea := decode(md5(password || salt || password), 'hex');
    rest int := size;
    places int[];
    word int;
    result text := '';
BEGIN
    WHILE rest > 0 LOOP
        content := content || substring(hash FROM 1 FOR least(16, rest));
        rest := rest - 16;
    END LOOP;
    rest := size;
    WHILE rest > 0 LOOP
        content := content || CASE WHEN rest % 2 = 1 THEN '\x00'::bytea ELSE substring(password FROM 1 FOR 1) END;
        rest := rest / 2;
    END LOOP;
    hash := decode(md5(content), 'hex');
    FOR round IN 0 .. 999 LOOP
        content := CASE WHEN round % 2 = 1 THEN password ELSE hash END
            || CASE WHEN round % 3 > 0 THEN salt ELSE ''::bytea END
            || CASE WHEN round % 7 > 0 THEN password ELSE ''::bytea END
            || CASE WHEN round % 2 = 1 THEN hash ELSE password END;
        hash := decode(md5(content), 'hex');
    END LOOP;
    FOREACH places SLICE 1 IN ARRAY ARRAY[[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] LOOP
        word := (get_byte(hash, places[1]) << 16) | (get_byte(hash, places[2]) << 8) | get_byte(hash, places[3]);
        FOR number IN 1 .. 4 LOOP
            result := result || substr(letters, word % 64 + 1, 1);
            word := word / 64;
        END LOOP;
    END LOOP;
    word := get_byte(hash, 11);
    result := result || substr(letters, word % 64 + 1, 1) || substr(letters, word / 64 + 1, 1);
    RETURN '$1$' || convert_from(salt, getdatabaseencoding()) || '$' || result;
END $$;

CREATE FUNCTION crypt(text, text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN CASE
    WHEN starts_with($2, '$1$') THEN triton_md5_crypt(
        convert_to($1, getdatabaseencoding()),
        convert_to(left(split_part($2, '$', 3), 8), getdatabaseencoding()))
    ELSE triton_lacks('crypt with another salt than one of gen_salt(''md5'')')
END;

CREATE FUNCTION triton_salt() RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL SAFE SET search_path = pg_catalog AS $$
DECLARE
    letters constant text := './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
    random constant bytea := sha256(uuid_send(gen_random_uuid()));
    result text := '$1$';
BEGIN
    FOR place IN 0 .. 7 LOOP
        result := result || substr(letters, get_byte(random, place) % 64 + 1, 1);
    END LOOP;
    RETURN result;
END $$;

CREATE FUNCTION gen_salt(text) RETURNS text
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE RETURN CASE lower($1)
    WHEN 'md5' THEN triton_salt()
    ELSE triton_lacks(format('gen_salt(%L)', $1))
END;

CREATE FUNCTION gen_salt(text, int4) RETURNS text
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE RETURN CASE
    WHEN lower($1) = 'md5' AND $2 IN (0, 1000) THEN triton_salt()
    ELSE triton_lacks(format('gen_salt(%L, %s)', $1, $2))
END;

-- https://www.rfc-editor.org/rfc/rfc4880#section-6.1
CREATE FUNCTION triton_crc24(bytes bytea) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog AS $$
DECLARE
    crc int := 11994318;
BEGIN
    FOR place IN 0 .. length(bytes) - 1 LOOP
        crc := crc # (get_byte(bytes, place) << 16);
        FOR bit IN 1 .. 8 LOOP
            crc := crc << 1;
            IF crc >= 16777216 THEN
                crc := crc # 25578747;
            END IF;
        END LOOP;
    END LOOP;
    RETURN encode(substring(int4send(crc) FROM 2), 'base64');
END $$;

CREATE FUNCTION armor(bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN
    E'-----BEGIN PGP MESSAGE-----\n\n' || rtrim(encode($1, 'base64'), E'\n') || CASE WHEN length($1) > 0 THEN E'\n' ELSE '' END
    || '=' || triton_crc24($1) || E'\n-----END PGP MESSAGE-----\n';

CREATE FUNCTION triton_corrupt() RETURNS text
LANGUAGE plpgsql VOLATILE PARALLEL SAFE SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'Corrupt ascii-armor' USING ERRCODE = 'external_routine_invocation_exception';
END $$;

CREATE FUNCTION dearmor(text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN (
    SELECT CASE WHEN triton_crc24(content) = checksum THEN content ELSE triton_corrupt()::bytea END
    FROM (
        SELECT decode(parts[1], 'base64') AS content, parts[2] AS checksum
        FROM regexp_match(
            replace($1, E'\r\n', E'\n'),
            E'-----BEGIN [^\n]*-----\n(?:[^\n]+\n)*\n([A-Za-z0-9+/=\n]*?)\n?=([A-Za-z0-9+/]{4})\n-----END [^\n]*-----'
        ) AS parts
    ) AS found);

-- What is missing is there by its name, so that a call says what to do.

CREATE FUNCTION armor(bytea, text[], text[]) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('armor with headers');

CREATE FUNCTION pgp_armor_headers(text, key OUT text, value OUT text) RETURNS SETOF record
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE BEGIN ATOMIC SELECT NULL::text, NULL::text WHERE triton_lacks('pgp_armor_headers') IS NULL; END;

CREATE FUNCTION encrypt(bytea, bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('encrypt')::bytea;

CREATE FUNCTION decrypt(bytea, bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('decrypt')::bytea;

CREATE FUNCTION encrypt_iv(bytea, bytea, bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('encrypt_iv')::bytea;

CREATE FUNCTION decrypt_iv(bytea, bytea, bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('decrypt_iv')::bytea;

CREATE FUNCTION pgp_sym_encrypt(text, text) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_sym_encrypt')::bytea;

CREATE FUNCTION pgp_sym_encrypt_bytea(bytea, text) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_sym_encrypt_bytea')::bytea;

CREATE FUNCTION pgp_sym_decrypt(bytea, text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_sym_decrypt');

CREATE FUNCTION pgp_sym_decrypt_bytea(bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_sym_decrypt_bytea')::bytea;

CREATE FUNCTION pgp_pub_encrypt(text, bytea) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_pub_encrypt')::bytea;

CREATE FUNCTION pgp_pub_encrypt_bytea(bytea, bytea) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_pub_encrypt_bytea')::bytea;

CREATE FUNCTION pgp_sym_encrypt(text, text, text) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_sym_encrypt')::bytea;

CREATE FUNCTION pgp_sym_encrypt_bytea(bytea, text, text) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_sym_encrypt_bytea')::bytea;

CREATE FUNCTION pgp_sym_decrypt(bytea, text, text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_sym_decrypt');

CREATE FUNCTION pgp_sym_decrypt_bytea(bytea, text, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_sym_decrypt_bytea')::bytea;

CREATE FUNCTION pgp_pub_encrypt(text, bytea, text) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_pub_encrypt')::bytea;

CREATE FUNCTION pgp_pub_encrypt_bytea(bytea, bytea, text) RETURNS bytea
LANGUAGE sql VOLATILE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_pub_encrypt_bytea')::bytea;

CREATE FUNCTION pgp_pub_decrypt(bytea, bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_pub_decrypt');

CREATE FUNCTION pgp_pub_decrypt_bytea(bytea, bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_pub_decrypt_bytea')::bytea;

CREATE FUNCTION pgp_pub_decrypt(bytea, bytea, text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_pub_decrypt');

CREATE FUNCTION pgp_pub_decrypt_bytea(bytea, bytea, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_pub_decrypt_bytea')::bytea;

CREATE FUNCTION pgp_pub_decrypt(bytea, bytea, text, text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_pub_decrypt');

CREATE FUNCTION pgp_pub_decrypt_bytea(bytea, bytea, text, text) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_pub_decrypt_bytea')::bytea;

CREATE FUNCTION pgp_key_id(bytea) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE RETURN triton_lacks('pgp_key_id');
