-- Refuse to start where something of ours would collide with something that is already there, and
-- name all of it at once. The CLI applies file by file, so this has to be the first, and to know
-- every name that the later ones create. tests/migration compares the lists with what they create.
do $$
declare
  missing text;
  found text;
begin
  select string_agg(need.what, ', ' order by need.what) into missing
  from (
    values
      ('table auth.users', to_regclass('auth.users') is null),
      ('table storage.buckets', to_regclass('storage.buckets') is null),
      ('table storage.objects', to_regclass('storage.objects') is null),
      ('role anon', to_regrole('anon') is null),
      ('role authenticated', to_regrole('authenticated') is null),
      ('role service_role', to_regrole('service_role') is null),
      (
        'publication supabase_realtime',
        not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime')
      )
  ) as need (what, is_missing)
  where need.is_missing;

  if missing is not null then
    raise exception 'wabridge needs a Supabase database, and this one lacks: %.', missing
      using errcode = 'object_not_in_prerequisite_state',
        hint = 'Push to a Supabase project, or start the sandbox, which brings its own.';
  end if;

  if (select puballtables from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    raise exception 'The publication supabase_realtime contains all tables, so WhatsApp keys would be published. Nothing was changed.'
      using errcode = 'object_not_in_prerequisite_state',
        hint = 'Recreate it with the tables you need (drop publication supabase_realtime; '
          'create publication supabase_realtime for table …), then run `supabase db push` again.';
  end if;

  select string_agg(collision.what, ', ' order by collision.what) into found
  from (
    select
      case class.relkind when 'v' then 'view' when 'm' then 'materialized view' else 'table' end
      || ' public.' || class.relname as what
    from pg_catalog.pg_class as class
    where class.relnamespace = 'public'::regnamespace
      and class.relname in (
        'workspaces', 'workspace_members', 'integration_accounts', 'whatsapp_baileys_sessions',
        'whatsapp_baileys_auth_deltas', 'leads', 'conversations', 'commands', 'messages',
        'attachments', 'message_receipts', 'message_reactions', 'poll_votes', 'whatsapp_baileys_events',
        'bridge_workers', 'group_participants', 'group_people', 'whatsapp_account_pacing'
      )
    union
    select 'function public.' || function.proname
    from pg_catalog.pg_proc as function
    where function.pronamespace = 'public'::regnamespace
      and function.proname in (
        'whatsapp_workspaces_of_caller', 'whatsapp_create_workspace', 'whatsapp_command_problem',
        'whatsapp_prune_events', 'whatsapp_account_pace', 'whatsapp_delete_account',
        'bridge_register_worker', 'bridge_heartbeat', 'bridge_hold_leases',
        'bridge_release_leases', 'bridge_claim_commands', 'bridge_finish_command',
        'bridge_settle_commands', 'bridge_update_account', 'bridge_load_session',
        'bridge_save_session', 'bridge_save_session_delta', 'bridge_destroy_session',
        'bridge_report', 'bridge_running_commands', 'bridge_check', 'bridge_list_accounts', 'bridge_record_events',
        'bridge_unread_messages', 'bridge_claim_attachments', 'bridge_find_stored_file', 'bridge_finish_attachment',
        'bridge_attach_to_send', 'bridge_command_context', 'bridge_record_history',
        'bridge_begin_history', 'bridge_history_state', 'bridge_finish_history', 'bridge_claim_pictures',
        'bridge_claim_picture', 'bridge_finish_picture', 'bridge_tell_typing',
        'bridge_lease_epochs', 'bridge_record_late', 'bridge_list_sealed', 'bridge_reseal',
        'bridge_record_blocklist', 'bridge_claim_old_pictures', 'bridge_forget_old_pictures',
        'bridge_list_chats', 'bridge_record_chats'
      )
    union
    select 'schema whatsapp_private'
    from pg_catalog.pg_namespace
    where nspname = 'whatsapp_private'
    union
    select 'Storage bucket whatsapp-media'
    from storage.buckets
    where id = 'whatsapp-media' or name = 'whatsapp-media'
    union
    select 'policy "' || policy.polname || '" of storage.objects'
    from pg_catalog.pg_policy as policy
    where policy.polrelid = 'storage.objects'::regclass
      and policy.polname in (
        'members read whatsapp media of their workspaces',
        'agents add whatsapp media to accounts of their workspaces',
        'nobody else reads whatsapp media', 'nobody else adds whatsapp media',
        'nobody changes whatsapp media', 'nobody deletes whatsapp media',
        'strangers have no part in whatsapp media'
      )
  ) as collision;

  if found is not null then
    raise exception 'wabridge cannot be installed here, because this project already has: %. Nothing was changed.', found
      using errcode = 'duplicate_object',
        hint = 'Rename what is listed, or move it to another schema '
          '(for a table: create schema legacy; alter table public.… set schema legacy), '
          'then run `supabase db push` again.';
  end if;
end
$$;

create schema whatsapp_private;
comment on schema whatsapp_private is
  'What wabridge keeps for itself: counters, limits, inner functions. Never exposed by the API.';
revoke all on schema whatsapp_private from public, anon, authenticated;
grant usage on schema whatsapp_private to service_role;

create table whatsapp_private.limits (
  only_row boolean primary key default true
    constraint limits_has_one_row check (only_row),
  accounts_per_user integer not null default 5
    constraint limits_accounts_per_user_is_sane check (accounts_per_user between 0 and 10000),
  pending_commands_per_account integer not null default 10000
    constraint limits_pending_commands_per_account_is_sane
    check (pending_commands_per_account between 1 and 1000000),
  events_kept_days integer not null default 30
    constraint limits_events_kept_days_is_sane check (events_kept_days between 1 and 3650)
);
comment on table whatsapp_private.limits is
  'Settings of the installation, one row. Change them with SQL: update whatsapp_private.limits set …';
comment on column whatsapp_private.limits.only_row is 'Always true: there is one row.';
comment on column whatsapp_private.limits.accounts_per_user is
  'How many WhatsApp accounts one user may have created and not deleted.';
comment on column whatsapp_private.limits.pending_commands_per_account is
  'How many commands of one account may wait: a claim looks through them, and every account waits for it.';
comment on column whatsapp_private.limits.events_kept_days is
  'After how many days diagnostics and receipts without a message are deleted.';
revoke all on whatsapp_private.limits from public, anon, authenticated, service_role;
grant select on whatsapp_private.limits to service_role;
insert into whatsapp_private.limits default values;

create function whatsapp_private.touch_updated_at() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.updated_at := now();
  return new;
end
$$;
comment on function whatsapp_private.touch_updated_at() is
  'Trigger: an update that changes something sets updated_at.';

create function whatsapp_private.give_to_the_bridge(variadic p_functions regprocedure[]) returns void
language plpgsql
set search_path = ''
as $$
declare
  given regprocedure;
begin
  foreach given in array p_functions loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', given);
    execute format('grant execute on function %s to service_role', given);
  end loop;
end
$$;
comment on function whatsapp_private.give_to_the_bridge(regprocedure[]) is
  'For migrations: these functions are for the bridge, which comes as service_role, and for nobody else.';

create function whatsapp_private.schema_version() returns integer
language sql immutable
set search_path = ''
as $$ select 1 $$;
comment on function whatsapp_private.schema_version() is
  'Grows with every migration that the bridge must know of; compared at its start.';

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
