create function gen_random_bytes(count integer) returns bytea language sql volatile strict as $$
  select substring(
    decode(string_agg(replace(gen_random_uuid()::text, '-', ''), ''), 'hex') from 1 for count
  )
  from generate_series(1, count / 16 + 1)
$$;
create function digest(data bytea, type text) returns bytea language plpgsql immutable strict as $$
begin
  return case lower(type)
    when 'md5' then decode(md5(data), 'hex')
    when 'sha224' then sha224(data)
    when 'sha256' then sha256(data)
    when 'sha384' then sha384(data)
    when 'sha512' then sha512(data)
  end;
end
$$;
create function digest(data text, type text) returns bytea language sql immutable strict as $$
  select @extschema@.digest(convert_to(data, 'utf8'), type)
$$;
