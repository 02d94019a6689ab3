-- Which host runs which account. Times are those of the database: hosts' clocks do not matter.

create function whatsapp_private.fence(p_worker uuid, p_account uuid, p_epoch bigint) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  session record;
begin
  select lease_owner, lease_epoch, lease_expires_at into session
  from public.whatsapp_baileys_sessions
  where integration_account_id = p_account
  for no key update;  -- excludes other writers and a change of hands, not a claim
  -- after the lock: the lease may have run out while waiting for it
  if session.lease_owner is distinct from p_worker
    or session.lease_epoch is distinct from p_epoch
    or session.lease_expires_at is null
    or session.lease_expires_at <= clock_timestamp()
  then
    raise exception 'This worker does not hold the account any more.' using errcode = 'WB001';
  end if;
  return (select workspace_id from public.integration_accounts where id = p_account);
end
$$;
comment on function whatsapp_private.fence(uuid, uuid, bigint) is
  'Until the end of the transaction nobody else writes for the account; WB001 unless this lease is valid. Returns the workspace.';

create function whatsapp_private.connected_accounts(p_worker uuid)
returns table (account_id uuid, lease_epoch bigint)
language sql
set search_path = ''
as $$
  select account.id, session.lease_epoch
  from public.whatsapp_baileys_sessions as session
  join public.integration_accounts as account on account.id = session.integration_account_id
  where session.lease_owner = p_worker
    and session.lease_expires_at > clock_timestamp()
    and account.status = 'connected'
  for key share of session
$$;
comment on function whatsapp_private.connected_accounts(uuid) is
  'The connected accounts that a worker holds; until the end of the transaction nobody takes them over.';

create function public.bridge_register_worker(p_worker uuid, p_info jsonb) returns jsonb
language plpgsql
set search_path = ''
as $$
begin
  if p_worker is null then
    raise exception 'A worker needs an id.' using errcode = '22023';
  end if;
  insert into public.bridge_workers as worker (id, hostname, version, pid, capacity)
  values (
    p_worker, p_info ->> 'hostname', p_info ->> 'version',
    (p_info ->> 'pid')::integer, (p_info ->> 'capacity')::integer
  )
  on conflict (id) do update set
    hostname = excluded.hostname,
    version = excluded.version,
    pid = excluded.pid,
    capacity = excluded.capacity,
    load = '{}',
    started_at = now(),
    last_seen_at = now();
  update public.whatsapp_baileys_sessions
  set lease_owner = null, lease_expires_at = null
  where lease_owner = p_worker;
  return jsonb_build_object(
    'server_time', clock_timestamp(),
    'schema_version', whatsapp_private.schema_version()
  );
end
$$;
comment on function public.bridge_register_worker(uuid, jsonb) is
  'A bridge starts: notes who it is ({hostname, version, pid, capacity}) and gives up leases of its earlier run. Returns {server_time, schema_version}.';

create function public.bridge_heartbeat(p_worker uuid, p_load jsonb) returns void
language plpgsql
set search_path = ''
as $$
begin
  update public.bridge_workers
  set last_seen_at = clock_timestamp(), load = coalesce(p_load, '{}')
  where id = p_worker;
  if not found then
    raise exception 'This worker is not registered.' using errcode = 'WB003';
  end if;
  perform public.whatsapp_prune_events();
  delete from public.bridge_workers where last_seen_at < now() - interval '7 days';
end
$$;
comment on function public.bridge_heartbeat(uuid, jsonb) is
  'A bridge is alive and this busy. Also prunes what is too old. WB003 if it must register first.';

create function whatsapp_private.has_work(p_account uuid) returns boolean
language sql stable
set search_path = ''
set enable_seqscan = off
as $$
  select exists (
    select from public.commands as command
    where command.integration_account_id = p_account and command.status = 'pending' and command.wait_code is null
  ) or exists (
    select from public.commands as command
    where command.integration_account_id = p_account
      and command.status = 'pending' and command.wait_code is not null and command.run_at <= now()
  ) or exists (
    select from public.commands as command
    where command.integration_account_id = p_account and command.status = 'running'
  )
$$;
comment on function whatsapp_private.has_work(uuid) is
  'Whether a command of an account may be begun now, or is under way.';

create function whatsapp_private.ask_for_share(p_worker uuid, p_capacity integer, p_lease_time interval) returns void
language plpgsql
set search_path = ''
as $$
declare
  -- a host that is just starting may be the second half of a deploy: the first half stops soon
  settles_in constant interval := '15 seconds';
  few constant integer := 3;
  mine integer;
  richest record;
begin
  if not exists (
    select from public.bridge_workers
    where id = p_worker and started_at < clock_timestamp() - settles_in
  ) then
    return;
  end if;
  -- what is on its way counts for where it goes
  with loads as (
    select worker.id, (
      select count(*) from public.whatsapp_baileys_sessions as session
      where case
        when session.moving_to is null then session.lease_owner = worker.id
        else session.moving_to = worker.id
      end
    )::integer as accounts
    from public.bridge_workers as worker
    where worker.id = p_worker or worker.leases_held_at > clock_timestamp() - p_lease_time
  )
  select own.accounts, other.id, other.accounts as more into richest
  from loads as own
  join loads as other on other.id <> own.id
  where own.id = p_worker
  order by other.accounts desc, other.id
  limit 1;
  mine := richest.accounts;
  -- a difference of one would only move back and forth
  if not found or richest.more - mine < 2 or mine >= p_capacity then
    return;
  end if;
  with movable as materialized (
    select session.id
    from public.whatsapp_baileys_sessions as session
    join public.integration_accounts as account on account.id = session.integration_account_id
    where session.lease_owner = richest.id
      and session.lease_expires_at > clock_timestamp()
      and session.moving_to is null
      and session.desired = 'running'
      and account.status = 'connected'
      and not exists (
        select from public.commands as command
        where command.integration_account_id = account.id and command.status = 'running'
      )
    order by account.last_connected_at nulls first, session.id
    limit least(few, (richest.more - mine) / 2, p_capacity - mine)
    for no key update of session skip locked
  )
  update public.whatsapp_baileys_sessions as session
  set moving_to = p_worker, moving_at = clock_timestamp()
  from movable
  where session.id = movable.id;
end
$$;
comment on function whatsapp_private.ask_for_share(uuid, integer, interval) is
  'A worker that has at least two accounts fewer than the fullest one asks it for a few that are connected and idle.';

create function whatsapp_private.lock_leases(p_worker uuid) returns uuid[]
language plpgsql
set search_path = ''
set lock_timeout = '300ms'
as $$
declare
  locked uuid[];
  until constant timestamptz := clock_timestamp() + interval '1 second';
  busy uuid;
begin
  select coalesce(array_agg(session.id), '{}') into locked
  from (
    select id from public.whatsapp_baileys_sessions
    where lease_owner = p_worker
    for no key update skip locked
  ) as session;
  -- somebody writes for these accounts now: mostly for a moment
  for busy in
    select id from public.whatsapp_baileys_sessions
    where lease_owner = p_worker and id <> all (locked)
    order by id
  loop
    exit when clock_timestamp() > until;
    begin
      perform from public.whatsapp_baileys_sessions
      where id = busy and lease_owner = p_worker
      for no key update;
      if found then
        locked := locked || busy;
      end if;
    exception when lock_not_available then
      null;  -- one account that is stuck must not cost the others their leases
    end;
  end loop;
  return locked;
end
$$;
comment on function whatsapp_private.lock_leases(uuid) is
  'Locks the sessions of a worker, and returns those it got: of accounts that somebody writes for it waits shortly, and for all of them a second at most.';

create function public.bridge_hold_leases(p_worker uuid, p_capacity integer, p_lease_s integer)
returns table (
  account_id uuid,
  workspace_id uuid,
  lease_epoch bigint,
  desired text,
  status text,
  settings jsonb,
  has_auth_state boolean,
  generation bigint,
  previous_owner uuid,
  wanted_elsewhere boolean,
  phone_silent_s double precision,
  renewed boolean
)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  lease_time constant interval := make_interval(secs => p_lease_s);
  mine uuid[];
  held integer;
  claimed_ids uuid[];
  claimed_from uuid[];
  -- a host that asked for an account comes for it within a few of its own turns
  kept_for constant interval := lease_time;
begin
  if p_lease_s not between 1 and 3600 or p_capacity < 0 or p_capacity is null or p_lease_s is null then
    raise exception 'A lease lasts 1 to 3600 seconds, and a capacity is not negative.' using errcode = '22023';
  end if;
  update public.bridge_workers
  set leases_held_at = case when p_capacity > 0 then clock_timestamp() end
  where id = p_worker;
  if not found then
    raise exception 'This worker is not registered.' using errcode = 'WB003';
  end if;

  -- what needs nobody any more goes; the rest is renewed
  mine := whatsapp_private.lock_leases(p_worker);
  update public.whatsapp_baileys_sessions as session
  set lease_owner = case when needed.it then p_worker end,
    lease_expires_at = case when needed.it then clock_timestamp() + lease_time end,
    moving_to = case when session.moving_at > clock_timestamp() - kept_for then session.moving_to end,
    moving_at = case when session.moving_at > clock_timestamp() - kept_for then session.moving_at end
  from (
    select session.id, session.desired = 'running' or whatsapp_private.has_work(session.integration_account_id) as it
    from public.whatsapp_baileys_sessions as session
    where session.id = any (mine)
  ) as needed
  where session.id = needed.id
    and (not needed.it or session.lease_expires_at > clock_timestamp());

  select count(*) into held from public.whatsapp_baileys_sessions as session
  where session.lease_owner = p_worker and session.lease_expires_at > clock_timestamp();

  if held < p_capacity then
    with free as materialized (
      select session.id, session.integration_account_id, coalesce(session.lease_owner, session.last_owner) as previous_owner
      from public.whatsapp_baileys_sessions as session
      where (session.lease_owner is null or session.lease_expires_at <= clock_timestamp())
        and (session.desired = 'running' or whatsapp_private.has_work(session.integration_account_id))
        and (
          session.moving_to is null
          or session.moving_to = p_worker
          or session.moving_at <= clock_timestamp() - kept_for
        )
      -- first what was asked for, then what ran here before: the disk may still have it
      order by session.moving_to is distinct from p_worker, session.last_owner is distinct from p_worker, session.lease_expires_at nulls last, session.id
      limit p_capacity - held
      for update skip locked  -- the strong lock waits for claims of the old lease: none is overlooked later
    ),
    taken as (
      update public.whatsapp_baileys_sessions as session
      set lease_owner = p_worker,
        last_owner = p_worker,
        lease_epoch = session.lease_epoch + 1,
        lease_expires_at = clock_timestamp() + lease_time,
        moving_to = null,
        moving_at = null
      from free
      where session.id = free.id
      returning session.integration_account_id, free.previous_owner
    )
    select array_agg(taken.integration_account_id), array_agg(taken.previous_owner)
    into claimed_ids, claimed_from
    from taken;
    if claimed_ids is null then
      perform whatsapp_private.ask_for_share(p_worker, p_capacity, lease_time);
    end if;
  end if;

  return query
  select account.id, account.workspace_id, session.lease_epoch, session.desired, account.status,
    whatsapp_private.settings_with_defaults(account.settings), session.auth_state is not null,
    session.generation, claimed.previous_owner, session.moving_to is not null,
    extract(epoch from clock_timestamp() - account.phone_last_seen_at)::double precision,
    session.id = any (mine) or claimed.account_id is not null
  from public.whatsapp_baileys_sessions as session
  join public.integration_accounts as account on account.id = session.integration_account_id
  left join unnest(claimed_ids, claimed_from) as claimed (account_id, previous_owner)
    on claimed.account_id = account.id
  where session.lease_owner = p_worker and session.lease_expires_at > clock_timestamp()
  order by account.id;
end
$$;
comment on function public.bridge_hold_leases(uuid, integer, integer) is
  'Renews the valid leases of a worker, releases those of accounts that need no host, claims free or expired ones up to its capacity (epoch + 1), and returns all it holds. previous_owner is set for those claimed now, wanted_elsewhere for those that it should give back soon because another worker has fewer, phone_silent_s says for how long the phone was not seen. A worker that stops calls with capacity 0. WB003 if it must register first.';

create function public.bridge_release_leases(p_worker uuid, p_accounts uuid[]) returns void
language sql
set search_path = ''
as $$
  with mine as materialized (
    select session.id from public.whatsapp_baileys_sessions as session
    where session.lease_owner = p_worker and session.integration_account_id = any (p_accounts)
    order by session.id
    for no key update
  )
  update public.whatsapp_baileys_sessions as session
  set lease_owner = null, lease_expires_at = null
  from mine
  where session.id = mine.id and session.lease_owner = p_worker
$$;
comment on function public.bridge_release_leases(uuid, uuid[]) is
  'Gives up leases of a worker, so that others need not wait for their end. Those of others are left alone.';

select whatsapp_private.give_to_the_bridge(
  'public.bridge_register_worker(uuid, jsonb)', 'public.bridge_heartbeat(uuid, jsonb)',
  'public.bridge_hold_leases(uuid, integer, integer)', 'public.bridge_release_leases(uuid, uuid[])'
);
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
