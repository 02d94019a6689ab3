-- What a finished command changes in the rows, and which commands may be done again.

create function whatsapp_private.has_outside_effect(p_type text) returns boolean
language sql immutable
set search_path = ''
as $$ select p_type in ('send', 'group_create') $$;
comment on function whatsapp_private.has_outside_effect(text) is
  'Commands that somebody would notice twice: never repeated when it is not known whether they happened.';

create function whatsapp_private.claimable_commands(p_account uuid, p_only_lifecycle boolean, p_limit integer)
returns table (id uuid, priority smallint, created_at timestamptz)
language plpgsql
set search_path = ''
rows 10
as $$
declare
  -- one command of each at a time: what is in here has one already
  busy_conversations uuid[];
  lifecycle_is_busy boolean;
  candidate record;
  found_count integer := 0;
begin
  select coalesce(array_agg(command.conversation_id) filter (where command.conversation_id is not null), '{}'),
    coalesce(bool_or(command.type in ('connect', 'disconnect', 'logout')), false)
  into busy_conversations, lifecycle_is_busy
  from public.commands as command
  where command.integration_account_id = p_account and command.status = 'running';

  -- a loop that stops early, not a join: the statistics of a queue are always stale, and a plan
  -- made from them reads the whole queue for each of its rows
  for candidate in
    select command.id, command.priority, command.created_at, command.conversation_id,
      command.run_at <= now() as is_due,
      command.type in ('connect', 'disconnect', 'logout') as is_lifecycle
    from public.commands as command
    where command.integration_account_id = p_account
      and command.status = 'pending'
      and (command.run_at <= now() or command.attempts > 0)
      and (not p_only_lifecycle or command.type in ('connect', 'disconnect', 'logout'))
    order by command.priority desc, command.created_at, command.id
  loop
    exit when found_count >= p_limit;
    if candidate.is_lifecycle then
      continue when lifecycle_is_busy;
      lifecycle_is_busy := true;
    elsif candidate.conversation_id is not null then
      continue when candidate.conversation_id = any (busy_conversations);
      busy_conversations := busy_conversations || candidate.conversation_id;
    end if;
    if candidate.is_due then
      found_count := found_count + 1;
      id := candidate.id;
      priority := candidate.priority;
      created_at := candidate.created_at;
      return next;
    end if;
  end loop;
end
$$;
comment on function whatsapp_private.claimable_commands(uuid, boolean, integer) is
  'The first commands of an account that may run now, best first: of a conversation the head of its line, unless one of it runs or its head waits for a retry.';

create function public.bridge_claim_commands(p_worker uuid, p_limit integer)
returns table (
  id uuid,
  account_id uuid,
  lease_epoch bigint,
  type text,
  payload jsonb,
  attempts integer,
  conversation_id uuid,
  chat_jid text,
  message_id uuid,
  expires_at timestamptz
)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
begin
  if p_limit is null or p_limit < 0 then
    raise exception 'A limit is not negative.' using errcode = '22023';
  end if;

  with overdue as (
    update public.commands as command
    set status = 'expired', finished_at = clock_timestamp(), error_code = 'expired',
      error_message = 'It could not be begun before it expired.'
    from public.whatsapp_baileys_sessions as session
    where session.integration_account_id = command.integration_account_id
      and session.lease_owner = p_worker
      and session.lease_expires_at > clock_timestamp()
      and command.status = 'pending'
      and command.expires_at <= now()
    returning command.message_id
  )
  update public.messages as message
  set status = 'failed', error_code = 'expired'
  from overdue
  where message.id = overdue.message_id and message.status = 'pending';

  return query
  with held as materialized (
    select session.integration_account_id, session.lease_epoch,
      -- of a stopped account everything is taken, to fail with a sentence; unless it is about to start
      account.status = 'connected' or (
        session.desired = 'stopped' and (
          select true from public.commands as command
          where command.integration_account_id = session.integration_account_id
            and command.status in ('pending', 'running')
            and command.type in ('connect', 'disconnect', 'logout')
            and command.type = 'connect'
            and (command.status = 'running' or command.run_at <= now() or command.attempts > 0)
          limit 1
        ) is null
      ) as takes_all
    from public.whatsapp_baileys_sessions as session
    join public.integration_accounts as account on account.id = session.integration_account_id
    where session.lease_owner = p_worker
      and session.lease_expires_at > clock_timestamp()
      and (
        select true from public.commands as command
        where command.integration_account_id = session.integration_account_id
          and command.status = 'pending' and command.run_at <= now()
        limit 1
      )
    for key share of session  -- nobody takes the account over before this is committed
  ),
  candidates as materialized (
    select found.id, held.lease_epoch
    from held
    cross join lateral whatsapp_private.claimable_commands(
      held.integration_account_id, not held.takes_all, p_limit
    ) as found
    order by found.priority desc, found.created_at, found.id
    limit p_limit
  ),
  locked as materialized (
    select command.id, command.integration_account_id, command.conversation_id, command.status,
      command.type in ('connect', 'disconnect', 'logout') as is_lifecycle
    from public.commands as command
    where command.id = any (array(select candidates.id from candidates))
    for update of command skip locked
  ),
  claimed as (
    update public.commands as command
    set status = 'running', started_at = clock_timestamp(), lease_epoch = candidates.lease_epoch,
      attempts = command.attempts + 1
    from locked
    join candidates on candidates.id = locked.id
    where command.id = locked.id
      and locked.status = 'pending'
      -- once more and at one instant, against what others claimed or put back since: nothing of its
      -- conversation runs, and it is the head of the line
      and (
        locked.conversation_id is null
        or locked.id = (
          select head.id from public.commands as head
          where head.conversation_id = locked.conversation_id
            and head.status in ('pending', 'running')
            and (head.status = 'running' or head.run_at <= now() or head.attempts > 0)
          order by head.priority desc, head.created_at, head.id
          limit 1
        )
      )
      and (
        select true from public.commands as running
        where running.integration_account_id = locked.integration_account_id
          and running.status = 'running'
          and (
            running.conversation_id = locked.conversation_id
            or (locked.is_lifecycle and running.type in ('connect', 'disconnect', 'logout'))
          )
        limit 1
      ) is null
    returning command.*
  )
  select claimed.id, claimed.integration_account_id, claimed.lease_epoch, claimed.type,
    -- the timer of the chat as it is now, not as it was when the command was given
    case when claimed.type = 'send' and conversation.disappears_after_s is not null
      then claimed.payload || jsonb_build_object('disappears_after_s', conversation.disappears_after_s)
      else claimed.payload
    end,
    claimed.attempts, claimed.conversation_id, coalesce(conversation.chat_jid, claimed.chat_jid),
    claimed.message_id, claimed.expires_at
  from claimed
  left join public.conversations as conversation on conversation.id = claimed.conversation_id
  order by claimed.priority desc, claimed.created_at, claimed.id;
end
$$;
comment on function public.bridge_claim_commands(uuid, integer) is
  'Takes due commands of accounts that the worker holds, best first, at most one of a conversation; expires overdue ones. A command is given out once, until it is finished or settled.';

create function whatsapp_private.finish_command(
  p_account uuid, p_command uuid, p_status text, p_result jsonb, p_error_code text, p_error_message text,
  p_retry_in_s double precision, p_attempt integer
) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  finished public.commands;
begin
  if p_status is null or p_status not in ('done', 'failed', 'unknown', 'pending') then
    raise exception 'A command ends as done, failed, unknown or pending.' using errcode = '22023';
  end if;
  update public.commands as command
  set status = p_status,
    result = p_result,
    error_code = p_error_code,
    error_message = p_error_message,
    run_at = case
      when p_status = 'pending'
      then clock_timestamp() + make_interval(secs => least(greatest(coalesce(p_retry_in_s, 0), 0), 86400 * 30))
      else command.run_at
    end,
    finished_at = case when p_status <> 'pending' then clock_timestamp() end
  where command.id = p_command
    and command.integration_account_id = p_account
    and command.status = 'running'
    and command.attempts = coalesce(p_attempt, command.attempts)
  returning * into finished;
  if finished.id is null then
    return false;
  end if;
  if p_status = 'failed' then
    update public.messages set status = 'failed', error_code = p_error_code
    where id = finished.message_id and status = 'pending';
  end if;
  return true;
end
$$;
comment on function whatsapp_private.finish_command(uuid, uuid, text, jsonb, text, text, double precision, integer) is
  'A running command ends, or is put back for a retry; false if it is not running (any more), or in another attempt.';

create function public.bridge_finish_command(
  p_worker uuid, p_account uuid, p_epoch bigint, p_command uuid, p_status text, p_result jsonb,
  p_error_code text, p_error_message text, p_retry_in_s double precision, p_attempt integer default null
) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  return whatsapp_private.finish_command(
    p_account, p_command, p_status, p_result, p_error_code, p_error_message, p_retry_in_s, p_attempt
  );
end
$$;
comment on function public.bridge_finish_command(uuid, uuid, bigint, uuid, text, jsonb, text, text, double precision, integer) is
  'Ends a running command as done, failed or unknown, or puts it back (pending) for a retry. False if it is not running any more, or if p_attempt is given and it runs in another attempt. WB001 if the lease is lost.';

create function public.bridge_settle_commands(
  p_worker uuid, p_account uuid, p_epoch bigint, p_known_epoch bigint
)
returns jsonb
language plpgsql
set search_path = ''
as $$
declare
  unknown_count integer;
  requeued_count integer;
begin
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  update public.commands as command
  set status = 'unknown', finished_at = clock_timestamp(), error_code = 'outcome_unknown',
    error_message = 'The bridge stopped before it knew whether WhatsApp got this. It is not repeated by itself.'
  where command.integration_account_id = p_account
    and command.status = 'running'
    and command.lease_epoch < p_epoch
    and whatsapp_private.has_outside_effect(command.type)
    -- the journal tells of sends only
    and (command.type <> 'send' or command.lease_epoch is distinct from p_known_epoch);
  get diagnostics unknown_count = row_count;
  update public.commands as command
  set status = 'pending', started_at = null
  where command.integration_account_id = p_account
    and command.status = 'running'
    and command.lease_epoch < p_epoch;
  get diagnostics requeued_count = row_count;
  return jsonb_build_object('requeued', requeued_count, 'unknown', unknown_count);
end
$$;
comment on function public.bridge_settle_commands(uuid, uuid, bigint, bigint) is
  'Called once by a new lease, after what the host still knew was recorded: of the commands that an earlier lease left running, those with an effect that nobody can vouch for become unknown, the others pending. p_known_epoch: the lease whose journal is intact here. Returns {requeued, unknown}.';

create function public.bridge_unread_messages(
  p_worker uuid, p_account uuid, p_epoch bigint, p_conversation uuid, p_until_message uuid
) returns table (whatsapp_message_id text, sender_jid text, sent_at timestamptz, chat_jid text)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
begin
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  return query
  select unread.whatsapp_message_id, unread.sender_id, unread.sent_at, unread.chat_jid
  from (
    select message.whatsapp_message_id, message.sender_id, message.sent_at, message.seq,
      coalesce(message.chat_jid, conversation.chat_jid) as chat_jid
    from public.conversations as conversation
    join public.messages as message on message.conversation_id = conversation.id
    where conversation.id = p_conversation
      and conversation.integration_account_id = p_account
      and not message.from_me
      and message.tipo not in ('reaction', 'system', 'call')
    order by message.sent_at desc, message.seq desc
    limit (
      select least(nao_lidas, 1000) from public.conversations
      where id = p_conversation and integration_account_id = p_account
    )
  ) as unread
  where p_until_message is null or (unread.sent_at, unread.seq) <= (
    select until.sent_at, until.seq from public.messages as until
    where until.id = p_until_message and until.conversation_id = p_conversation
  )
  order by unread.sent_at, unread.seq;
end
$$;
comment on function public.bridge_unread_messages(uuid, uuid, bigint, uuid, uuid) is
  'The incoming messages of a conversation that count as unread, oldest first, up to a message if given; at most the latest 1,000.';

do $$
declare
  function regprocedure;
begin
  foreach function in array array[
    'public.bridge_claim_commands(uuid, integer)',
    'public.bridge_finish_command(uuid, uuid, bigint, uuid, text, jsonb, text, text, double precision, integer)',
    'public.bridge_settle_commands(uuid, uuid, bigint, bigint)',
    'public.bridge_unread_messages(uuid, uuid, bigint, uuid, uuid)'
  ]::regprocedure[] loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', function);
    execute format('grant execute on function %s to service_role', function);
  end loop;
end
$$;
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;

-- A claim whose answer got lost on its way leaves commands running that no worker knows of.
create function public.bridge_running_commands(p_worker uuid, p_known uuid[])
returns table (
  id uuid,
  account_id uuid,
  lease_epoch bigint,
  type text,
  payload jsonb,
  attempts integer,
  conversation_id uuid,
  chat_jid text,
  message_id uuid,
  expires_at timestamptz
)
language sql stable
set search_path = ''
as $$
  select command.id, command.integration_account_id, command.lease_epoch, command.type, command.payload,
    command.attempts, command.conversation_id, coalesce(conversation.chat_jid, command.chat_jid),
    command.message_id, command.expires_at
  from public.whatsapp_baileys_sessions as session
  join public.commands as command
    on command.integration_account_id = session.integration_account_id
    and command.lease_epoch = session.lease_epoch
  left join public.conversations as conversation on conversation.id = command.conversation_id
  where session.lease_owner = p_worker
    and session.lease_expires_at > clock_timestamp()
    and command.status = 'running'
    and command.id <> all (coalesce(p_known, '{}'))
  order by command.priority desc, command.created_at, command.id
$$;
comment on function public.bridge_running_commands(uuid, uuid[]) is
  'Commands that were claimed under leases this worker holds now, except those it knows of: what a claim gave out whose answer got lost. Called after such a claim, so that they are executed and not forgotten.';
revoke all on function public.bridge_running_commands(uuid, uuid[]) from public, anon, authenticated, service_role;
grant execute on function public.bridge_running_commands(uuid, uuid[]) to service_role;
