-- For the start of the bridge, `wabridge doctor` and `wabridge accounts list`.

create function public.bridge_report(
  p_worker uuid, p_account uuid, p_level text, p_code text, p_message text, p_context jsonb
) returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into public.whatsapp_baileys_events
    (workspace_id, integration_account_id, worker_id, level, code, message, context)
  select account.workspace_id, account.id, p_worker, p_level, p_code, left(p_message, 2000), coalesce(p_context, '{}')
  from (select) as always
  left join public.integration_accounts as account on account.id = p_account
  -- told again because the answer was lost
  where not exists (
    select from public.whatsapp_baileys_events as earlier
    where earlier.worker_id = p_worker
      and earlier.integration_account_id is not distinct from p_account
      and earlier.created_at > now() - interval '1 minute'
      and (earlier.level, earlier.code, earlier.message) = (p_level, p_code, left(p_message, 2000))
      and earlier.context = coalesce(p_context, '{}')
  );
exception
  when data_exception or integrity_constraint_violation then
    raise exception 'The report was refused: %.', sqlerrm using errcode = '22023';
end
$$;
comment on function public.bridge_report(uuid, uuid, text, text, text, jsonb) is
  'Notes an error or diagnostic, of an account or (null) of the host; the same again within a minute is not noted twice. Needs no lease: who lost it may still say so.';

create function public.bridge_check() returns jsonb
language sql stable
set search_path = ''
as $$
  select jsonb_build_object(
    'schema_version', whatsapp_private.schema_version(),
    'server_time', clock_timestamp(),
    'bucket', exists (select from storage.buckets where id = 'whatsapp-media' and not public),
    'publication_missing', (
      select coalesce(jsonb_agg(needed.name order by needed.name), '[]')
      from unnest(array['integration_accounts', 'conversations', 'messages', 'attachments', 'commands']) as needed (name)
      where not exists (
        select from pg_catalog.pg_publication_tables as published
        where published.pubname = 'supabase_realtime'
          and published.schemaname = 'public'
          and published.tablename = needed.name
      )
    ),
    'sealed_key_ids', (
      select coalesce(jsonb_agg(distinct sealed.kid order by sealed.kid), '[]')
      from (
        select session.auth_state ->> 'kid' as kid from public.whatsapp_baileys_sessions as session
        union all
        select delta.delta ->> 'kid' from public.whatsapp_baileys_auth_deltas as delta
      ) as sealed
      where sealed.kid is not null
    ),
    'accounts', (select count(*) from public.integration_accounts),
    'workers', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'id', worker.id, 'hostname', worker.hostname, 'version', worker.version,
            'capacity', worker.capacity, 'load', worker.load,
            'started_at', worker.started_at, 'last_seen_at', worker.last_seen_at
          )
          order by worker.last_seen_at desc
        ),
        '[]'
      )
      from public.bridge_workers as worker
    )
  )
$$;
comment on function public.bridge_check() is
  'What a bridge wants to know before it starts: {schema_version, server_time, bucket, publication_missing, sealed_key_ids, accounts, workers}.';

create function public.bridge_list_accounts()
returns table (
  id uuid,
  workspace_id uuid,
  nome text,
  status text,
  status_reason text,
  next_action text,
  numero text,
  lease_owner uuid,
  lease_expires_at timestamptz,
  last_connected_at timestamptz
)
language sql stable
set search_path = ''
as $$
  select account.id, account.workspace_id, account.nome, account.status, account.status_reason,
    account.next_action, '…' || right(account.numero, 4), session.lease_owner, session.lease_expires_at,
    account.last_connected_at
  from public.integration_accounts as account
  join public.whatsapp_baileys_sessions as session on session.integration_account_id = account.id
  order by account.created_at, account.id
$$;
comment on function public.bridge_list_accounts() is
  'All accounts for the operator, with the last four digits of their numbers.';

select whatsapp_private.give_to_the_bridge(
  'public.bridge_report(uuid, uuid, text, text, text, jsonb)', 'public.bridge_check()',
  'public.bridge_list_accounts()'
);
