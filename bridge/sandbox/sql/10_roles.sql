-- The roles of a hosted project. Migrations are pushed by `postgres`, which is no superuser there.
-- PASSWORD is replaced by this sandbox's own.
create role anon nologin noinherit;
create role authenticated nologin noinherit;
create role service_role nologin noinherit bypassrls;
create role authenticator login noinherit password 'PASSWORD';
create role postgres login createrole createdb replication bypassrls password 'PASSWORD';
create role supabase_auth_admin login noinherit createrole password 'PASSWORD';
create role supabase_storage_admin login noinherit createrole password 'PASSWORD';
create role supabase_realtime_admin nologin noinherit;
create role dashboard_user nologin createrole createdb replication;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to supabase_storage_admin;
grant anon, authenticated, service_role, authenticator to postgres with admin option;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;

-- PostgREST sets these for the transaction of a request, by the role of the caller.
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';

alter database postgres owner to postgres;
alter database postgres set search_path to "$user", public, extensions;
