create function uuid_generate_v4() returns uuid language sql volatile as $$
  select gen_random_uuid()
$$;
