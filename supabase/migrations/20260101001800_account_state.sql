-- What the bridge writes about an account: its face, and its sealed session.

create function public.bridge_update_account(p_worker uuid, p_account uuid, p_epoch bigint, p_changes jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
  allowed constant text[] := array[
    'status', 'status_reason', 'status_detail', 'next_action', 'retry_at', 'numero', 'instance_id', 'lid',
    'last_qr', 'qr_expires_at', 'pairing_code', 'last_connected_at', 'last_seen_at', 'phone_last_seen_at',
    'timelock_until', 'sync_status', 'sync_progress', 'sync_error', 'desired', 'ended_cleanly'
  ];
  unknown_key text;
  changes jsonb;
  was public.integration_accounts;
  becomes public.integration_accounts;
begin
  if p_changes is null or jsonb_typeof(p_changes) <> 'object' then
    raise exception 'Changes are a JSON object.' using errcode = '22023';
  end if;
  select key into unknown_key from jsonb_object_keys(p_changes) as key where key <> all (allowed) limit 1;
  if unknown_key is not null then
    raise exception 'The bridge does not write the column %.', quote_literal(unknown_key) using errcode = '22023';
  end if;
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);

  select jsonb_object_agg(
    key,
    case
      when key not like '%\_at' and key not like '%\_until' then value
      when value = '"now"' then to_jsonb(clock_timestamp())
      when value ? 'in_s' then to_jsonb(clock_timestamp() + make_interval(secs => (value ->> 'in_s')::double precision))
      else value
    end
  ) into changes
  from jsonb_each(p_changes)
  where key not in ('desired', 'ended_cleanly');

  select * into was from public.integration_accounts where id = p_account for no key update;
  becomes := jsonb_populate_record(was, coalesce(changes, '{}'));
  if becomes is distinct from was then
    update public.integration_accounts
    set status = becomes.status,
      status_reason = becomes.status_reason,
      status_detail = becomes.status_detail,
      next_action = becomes.next_action,
      retry_at = becomes.retry_at,
      numero = becomes.numero,
      instance_id = becomes.instance_id,
      lid = becomes.lid,
      last_qr = becomes.last_qr,
      qr_expires_at = becomes.qr_expires_at,
      pairing_code = becomes.pairing_code,
      last_connected_at = becomes.last_connected_at,
      last_seen_at = becomes.last_seen_at,
      phone_last_seen_at = becomes.phone_last_seen_at,
      timelock_until = becomes.timelock_until,
      sync_status = becomes.sync_status,
      sync_progress = becomes.sync_progress,
      sync_error = becomes.sync_error
    where id = p_account;
  end if;
  if p_changes ? 'desired' then
    update public.whatsapp_baileys_sessions
    set desired = p_changes ->> 'desired'
    where integration_account_id = p_account and desired is distinct from p_changes ->> 'desired';
  end if;
  if p_changes ? 'ended_cleanly' then
    update public.whatsapp_baileys_sessions
    set ended_cleanly = (p_changes ->> 'ended_cleanly')::boolean
    where integration_account_id = p_account;
  end if;
exception
  when data_exception or integrity_constraint_violation then
    raise exception 'The account cannot be changed like this: %.', sqlerrm using errcode = '22023';
end
$$;
comment on function public.bridge_update_account(uuid, uuid, bigint, jsonb) is
  'Sets columns of an account, and desired and ended_cleanly of its session. Times are ISO 8601, "now" or {"in_s": seconds from now}, null clears; what does not differ is not written. 22023 for anything else, WB001 if the lease is lost.';

create function public.bridge_load_session(p_worker uuid, p_account uuid, p_epoch bigint) returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  is_behind boolean;
begin
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  select not session.ended_cleanly and session.saved_at < (
    select message.created_at from public.messages as message
    where message.integration_account_id = p_account
      and message.command_id is null  -- a send has its row before anything is sent
    order by message.seq desc
    limit 1
  ) into is_behind
  from public.whatsapp_baileys_sessions as session
  where session.integration_account_id = p_account;
  update public.whatsapp_baileys_sessions set ended_cleanly = false where integration_account_id = p_account;
  return (
    select jsonb_build_object(
      'is_behind', coalesce(is_behind, false),
      'generation', session.generation,
      'auth_state', session.auth_state,
      'deltas', coalesce(
        (
          select jsonb_agg(
            jsonb_build_object('generation', delta.generation, 'delta', delta.delta) order by delta.generation
          )
          from public.whatsapp_baileys_auth_deltas as delta
          where delta.integration_account_id = p_account
        ),
        '[]'
      )
    )
    from public.whatsapp_baileys_sessions as session
    where session.integration_account_id = p_account
  );
end
$$;
comment on function public.bridge_load_session(uuid, uuid, bigint) is
  'A session begins: its sealed state {generation, auth_state or null, deltas: [{generation, delta}] in order, is_behind: the last session did not end cleanly, and heard something after this was saved}. WB001 if the lease is lost.';

create function whatsapp_private.advance_generation(p_account uuid, p_generation bigint) returns void
language plpgsql
set search_path = ''
as $$
begin
  update public.whatsapp_baileys_sessions
  set generation = p_generation, saved_at = clock_timestamp()
  where integration_account_id = p_account and generation + 1 = p_generation;
  if not found then
    raise exception 'The session was saved by somebody else meanwhile: generation % does not come next.', p_generation
      using errcode = 'WB002';
  end if;
end
$$;
comment on function whatsapp_private.advance_generation(uuid, bigint) is
  'Compare and set: WB002 unless this generation comes next.';

create function public.bridge_save_session(
  p_worker uuid, p_account uuid, p_epoch bigint, p_generation bigint, p_auth_state jsonb
) returns void
language plpgsql
set search_path = ''
as $$
begin
  if p_auth_state is null or jsonb_typeof(p_auth_state) <> 'object' then
    raise exception 'A sealed session is a JSON object.' using errcode = '22023';
  end if;
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  perform whatsapp_private.advance_generation(p_account, p_generation);
  update public.whatsapp_baileys_sessions set auth_state = p_auth_state where integration_account_id = p_account;
  delete from public.whatsapp_baileys_auth_deltas where integration_account_id = p_account;
end
$$;
comment on function public.bridge_save_session(uuid, uuid, bigint, bigint, jsonb) is
  'Saves the sealed session whole, as this generation. WB002 unless it comes next, WB001 if the lease is lost.';

create function public.bridge_save_session_delta(
  p_worker uuid, p_account uuid, p_epoch bigint, p_generation bigint, p_delta jsonb
) returns void
language plpgsql
set search_path = ''
as $$
begin
  if p_delta is null or jsonb_typeof(p_delta) <> 'object' then
    raise exception 'A sealed change is a JSON object.' using errcode = '22023';
  end if;
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  perform whatsapp_private.advance_generation(p_account, p_generation);
  if not exists (
    select from public.whatsapp_baileys_sessions
    where integration_account_id = p_account and auth_state is not null
  ) then
    raise exception 'There is no saved session that this could change.' using errcode = '22023';
  end if;
  insert into public.whatsapp_baileys_auth_deltas (integration_account_id, generation, delta)
  values (p_account, p_generation, p_delta);
end
$$;
comment on function public.bridge_save_session_delta(uuid, uuid, bigint, bigint, jsonb) is
  'Saves a sealed change of the session, as this generation. WB002 unless it comes next, WB001 if the lease is lost.';

create function public.bridge_destroy_session(p_worker uuid, p_account uuid, p_epoch bigint, p_changes jsonb)
returns void
language plpgsql
set search_path = ''
as $$
begin
  -- in one transaction: an account that is stopped needs no host, so the lease may be gone right after
  perform public.bridge_update_account(p_worker, p_account, p_epoch, p_changes);
  update public.whatsapp_baileys_sessions
  set auth_state = null, desired = 'stopped', generation = generation + (auth_state is not null)::integer
  where integration_account_id = p_account;
  delete from public.whatsapp_baileys_auth_deltas where integration_account_id = p_account;
end
$$;
comment on function public.bridge_destroy_session(uuid, uuid, bigint, jsonb) is
  'The device was unlinked: forgets its keys for good, stops the account and says so in its row, as bridge_update_account. The generation goes on, so that none is used twice.';

select whatsapp_private.give_to_the_bridge(
  'public.bridge_update_account(uuid, uuid, bigint, jsonb)',
  'public.bridge_load_session(uuid, uuid, bigint)',
  'public.bridge_save_session(uuid, uuid, bigint, bigint, jsonb)',
  'public.bridge_save_session_delta(uuid, uuid, bigint, bigint, jsonb)',
  'public.bridge_destroy_session(uuid, uuid, bigint, jsonb)'
);
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
