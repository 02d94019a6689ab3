-- On a hosted project an extension lets `postgres` create policies on tables it does not own. Here
-- it inherits the owners' rights, and an event trigger takes back everything but policies.
grant supabase_storage_admin, supabase_realtime_admin to postgres;

create function extensions.refuse_changes_to_owned_schemas() returns event_trigger
language plpgsql set search_path = '' as $$
declare
  changed record;
begin
  if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    return;
  end if;
  for changed in select * from pg_catalog.pg_event_trigger_ddl_commands() loop
    if changed.schema_name in ('auth', 'storage', 'realtime')
      and changed.command_tag not in (
        'CREATE POLICY', 'ALTER POLICY', 'CREATE TRIGGER', 'COMMENT', 'GRANT', 'REVOKE'
      )
    then
      raise exception 'must be owner of %', changed.object_identity using errcode = '42501';
    end if;
  end loop;
end
$$;
create function extensions.refuse_drops_in_owned_schemas() returns event_trigger
language plpgsql set search_path = '' as $$
declare
  dropped record;
begin
  if (select rolsuper from pg_catalog.pg_roles where rolname = current_user) then
    return;
  end if;
  for dropped in select * from pg_catalog.pg_event_trigger_dropped_objects() loop
    if dropped.original and dropped.schema_name in ('auth', 'storage', 'realtime')
      and dropped.object_type not in ('policy', 'trigger')
    then
      raise exception 'must be owner of %', dropped.object_identity using errcode = '42501';
    end if;
  end loop;
end
$$;
create event trigger sandbox_refuse_changes on ddl_command_end
  execute function extensions.refuse_changes_to_owned_schemas();
create event trigger sandbox_refuse_drops on sql_drop
  execute function extensions.refuse_drops_in_owned_schemas();

-- REST learns of new tables and functions by itself, as on a hosted project.
create function extensions.pgrst_ddl_watch() returns event_trigger
language plpgsql set search_path = '' as $$
begin
  notify pgrst, 'reload schema';
end
$$;
create event trigger pgrst_ddl_watch on ddl_command_end
  execute function extensions.pgrst_ddl_watch();
create event trigger pgrst_drop_watch on sql_drop
  execute function extensions.pgrst_ddl_watch();
