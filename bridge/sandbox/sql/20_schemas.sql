-- Schemas of a hosted project, and what new objects in `public` are granted there.
create schema extensions authorization postgres;
create schema auth authorization supabase_admin;
create schema storage authorization supabase_admin;
create schema realtime authorization supabase_admin;
create schema supabase_migrations authorization postgres;

alter schema public owner to pg_database_owner;
grant usage on schema public, extensions to postgres, anon, authenticated, service_role;
grant create on schema public to postgres;
grant usage on schema auth to postgres, anon, authenticated, service_role, supabase_auth_admin;
grant usage on schema storage to postgres, anon, authenticated, service_role, supabase_storage_admin;
grant usage on schema realtime to postgres, anon, authenticated, service_role;

-- Since 2026-10-30 tables and sequences are not exposed by themselves. What `grant all` gave
-- besides reading and writing is left over there, so it is here: migrations should revoke it.
alter default privileges for role postgres in schema public
  grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on sequences to postgres, anon, authenticated, service_role;
-- Functions are exposed by name, beside PUBLIC, on projects of any age but those that took it back:
-- a migration that revokes from PUBLIC alone leaves a function open to anon.
alter default privileges for role postgres in schema public
  grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  revoke select, insert, update, delete on tables from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  revoke usage, select on sequences from anon, authenticated, service_role;

create table supabase_migrations.schema_migrations (
  version text not null primary key,
  statements text[],
  name text
);
alter table supabase_migrations.schema_migrations owner to postgres;

-- Extensions every project has, as far as this PostgreSQL has them (or our stand-ins for them).
do $$
declare
  wanted text;
begin
  foreach wanted in array array['pgcrypto', 'uuid-ossp'] loop
    if exists (select from pg_available_extensions where name = wanted) then
      execute format('create extension %I with schema extensions', wanted);
    end if;
  end loop;
end
$$;
