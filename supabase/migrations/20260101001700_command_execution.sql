-- What a finished command changes in the rows, and which commands may be done again.

create function whatsapp_private.has_outside_effect(p_type text) returns boolean
language sql immutable
set search_path = ''
as $$ select p_type in ('send', 'group_create') $$;
comment on function whatsapp_private.has_outside_effect(text) is
  'Commands that somebody would notice twice: never repeated when it is not known whether they happened.';

create function whatsapp_private.claimable_commands(
  p_account uuid, p_only_lifecycle boolean, p_is_paced boolean, p_limit integer, p_most_told integer
)
returns table (id uuid, priority smallint, created_at timestamptz, paced_as text)
language plpgsql
set search_path = ''
-- connections keep their plans, and the statistics of a queue are always stale
set enable_seqscan = off
rows 10
as $$
declare
  -- one command of each at a time: what is in here has one already
  busy_conversations uuid[];
  lifecycle_is_busy boolean;
  pace record;
  sends_go boolean := true;
  line refcursor;
  candidate record;
  head record;
  contact record;
  found_count integer := 0;
  looked_at integer := 0;
  waits text;
  waits_until timestamptz;
  waiting_ids uuid[] := '{}';
  waiting_codes text[] := '{}';
  waiting_until timestamptz[] := '{}';
  refused_ids uuid[] := '{}';
begin
  select coalesce(array_agg(command.conversation_id) filter (where command.conversation_id is not null), '{}'),
    coalesce(bool_or(command.type in ('connect', 'disconnect', 'logout')), false)
  into busy_conversations, lifecycle_is_busy
  from public.commands as command
  where command.integration_account_id = p_account and command.status = 'running';

  perform whatsapp_private.return_to_line(p_account, '{scheduled,retry}', 500);
  if p_is_paced then
    select * into pace from whatsapp_private.pace_of(p_account, now());
    perform whatsapp_private.apply_pace(p_account, pace, p_most_told);
    sends_go := pace.all_code is null and pace.minute_left > 0;
  elsif not p_only_lifecycle then
    perform whatsapp_private.return_to_line(p_account, whatsapp_private.pacing_codes(), 500);
  end if;

  -- a loop that stops early, not a join: a plan made from stale statistics reads the whole queue for
  -- each of its rows
  if not sends_go then
    open line for
      select command.id, command.type, command.priority, command.created_at, command.conversation_id, command.expires_at
      from public.commands as command
      where command.integration_account_id = p_account
        and command.status = 'pending' and command.wait_code is null and command.type <> 'send'
        and (not p_only_lifecycle or command.type in ('connect', 'disconnect', 'logout'))
      order by command.priority desc, command.created_at, command.id;
  else
    open line for
      select command.id, command.type, command.priority, command.created_at, command.conversation_id, command.expires_at
      from public.commands as command
      where command.integration_account_id = p_account
        and command.status = 'pending' and command.wait_code is null
        and (not p_only_lifecycle or command.type in ('connect', 'disconnect', 'logout'))
      order by command.priority desc, command.is_cold, command.created_at, command.id;
  end if;
  loop
    -- the rest of a long line is told in the next claims
    exit when found_count >= p_limit or cardinality(waiting_ids) + cardinality(refused_ids) >= p_most_told;
    fetch line into candidate;
    exit when not found;
    waits := null;
    paced_as := null;
    if candidate.type in ('connect', 'disconnect', 'logout') then
      continue when lifecycle_is_busy;
      lifecycle_is_busy := true;
    elsif candidate.conversation_id is not null then
      continue when candidate.conversation_id = any (busy_conversations);
      select command.id, command.wait_code, command.run_at into head
      from public.commands as command
      where command.conversation_id = candidate.conversation_id
        and command.status in ('pending', 'running')
        and command.wait_code is distinct from 'scheduled'
      order by command.priority desc, command.created_at, command.id
      limit 1;
      if head.id is distinct from candidate.id then
        waits := head.wait_code;  -- behind one that waits; null: somebody changed the line just now
        waits_until := head.run_at;
        continue when waits is null or waits = 'retry';
      end if;
    end if;

    if waits is null and p_is_paced and candidate.type = 'send' then
      select * into contact from whatsapp_private.contact_of(candidate.conversation_id, pace.warm_since, candidate.created_at);
      if contact.opted_out then
        refused_ids := refused_ids || candidate.id;
        continue;
      end if;
      paced_as := contact.paced_as;
      if pace.minute_left <= 0 then
        waits := 'messages_per_minute';
        waits_until := pace.minute_until;
        exit when cardinality(waiting_ids) >= 20;  -- the rest of the line is told when it comes near
      elsif paced_as <> 'warm' then
        if pace.cold_code is not null then
          waits := pace.cold_code;
          waits_until := pace.cold_until;
        elsif pace.timelock_until is not null and paced_as <> 'group' then
          waits := 'reachout_timelock';
          waits_until := pace.timelock_until;
        elsif pace.cold_left <= 0 then
          waits := 'messages_per_day';
          waits_until := pace.cold_left_until;
        elsif paced_as = 'new' and pace.new_left <= 0 then
          waits := 'new_chats_per_day';
          waits_until := pace.new_left_until;
        elsif pace.gap_until is not null and candidate.conversation_id is distinct from pace.gap_conversation then
          waits := 'cold_gap';
          waits_until := pace.gap_until;
        end if;
      end if;
    end if;

    if waits is not null then
      waiting_ids := waiting_ids || candidate.id;
      waiting_codes := waiting_codes || waits;
      waiting_until := waiting_until || waits_until;
      continue;
    end if;
    if candidate.conversation_id is not null then
      busy_conversations := busy_conversations || candidate.conversation_id;
    end if;
    if paced_as is not null then
      pace.minute_left := pace.minute_left - 1;
      if paced_as <> 'warm' then
        pace.cold_left := pace.cold_left - 1;
        pace.new_left := pace.new_left - (paced_as = 'new')::integer;
        if pace.cold_gap_s > 0 then
          pace.gap_conversation := candidate.conversation_id;
          pace.gap_until := now() + whatsapp_private.cold_gap(pace.cold_gap_s, candidate.id);
        end if;
      end if;
    end if;
    found_count := found_count + 1;
    id := candidate.id;
    priority := candidate.priority;
    created_at := candidate.created_at;
    return next;
  end loop;
  close line;

  if cardinality(waiting_ids) > 0 then
    perform whatsapp_private.let_wait(waiting_ids, waiting_codes, waiting_until);
  end if;
  if cardinality(refused_ids) > 0 then
    perform whatsapp_private.refuse_opted_out(refused_ids);
  end if;
end
$$;
comment on function whatsapp_private.claimable_commands(uuid, boolean, boolean, integer, integer) is
  'The first commands of an account that may run now, best first: of a conversation the head of its line, unless one of it runs or its head waits. Of sends (if p_is_paced) those that the pace allows, with what they count as; the others, p_most_told at once, are told why they wait, and until when.';

create function whatsapp_private.payload_now(p_type text, p_payload jsonb, p_disappears_after_s integer) returns jsonb
language sql immutable
set search_path = ''
as $$
  select case
    when p_type = 'send' and p_disappears_after_s is not null
    then p_payload || jsonb_build_object('disappears_after_s', p_disappears_after_s)
    else p_payload
  end
$$;
comment on function whatsapp_private.payload_now(text, jsonb, integer) is
  'The payload of a command, with the timer of its chat as it is now, not as it was when the command was given.';

create function public.bridge_claim_commands(p_worker uuid, p_limit integer)
returns table (
  id uuid,
  account_id uuid,
  lease_epoch bigint,
  type text,
  payload jsonb,
  attempts integer,
  claims integer,
  conversation_id uuid,
  chat_jid text,
  message_id uuid,
  expires_at timestamptz,
  age_s double precision
)
language plpgsql
set search_path = ''
-- connections keep their plans, and the statistics of a queue are always stale
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  held record;
  claimable jsonb := '[]';
  more jsonb;
begin
  if p_limit is null or p_limit < 0 then
    raise exception 'A limit is not negative.' using errcode = '22023';
  end if;

  with overdue as (
    update public.commands as command
    set status = 'expired', finished_at = clock_timestamp(), error_code = 'expired',
      error_message = 'It could not be begun before it expired.'
    where command.id in (
      select late.id
      from public.whatsapp_baileys_sessions as session
      join public.commands as late on late.integration_account_id = session.integration_account_id
      where session.lease_owner = p_worker
        and session.lease_expires_at > clock_timestamp()
        and late.status = 'pending'
        and late.expires_at <= now()
      limit 5000
      for update of late skip locked
    )
    returning command.message_id
  )
  update public.messages as message
  set status = 'failed', error_code = 'expired'
  from overdue
  where message.id = overdue.message_id and message.status = 'pending';

  -- in one order, so that two claims at once wait for nobody in a ring
  for held in
    select session.integration_account_id, session.lease_epoch, account.status,
      -- of a stopped account everything is taken, to fail with a sentence; unless it is about to start
      account.status = 'connected' or (
        session.desired = 'stopped' and (
          select true from public.commands as command
          where command.integration_account_id = session.integration_account_id
            and command.status in ('pending', 'running')
            and command.type in ('connect', 'disconnect', 'logout')
            and command.type = 'connect'
            and (command.status = 'running' or command.wait_code is null or command.wait_code <> 'scheduled')
          limit 1
        ) is null
      ) as takes_all
    from public.whatsapp_baileys_sessions as session
    join public.integration_accounts as account on account.id = session.integration_account_id
    where session.moving_to is null  -- what it would claim now another host would find half done
      and session.lease_owner = p_worker
      and session.lease_expires_at > clock_timestamp()
      and (
        (
          select true from public.commands as command
          where command.integration_account_id = session.integration_account_id
            and command.status = 'pending' and command.wait_code is null
          limit 1
        )
        or (
          select true from public.commands as command
          where command.integration_account_id = session.integration_account_id
            and command.status = 'pending' and command.wait_code is not null and command.run_at <= now()
          limit 1
        )
      )
    order by session.integration_account_id
    for key share of session  -- nobody takes the account over before this is committed
  loop
    -- budgets are counted by one claim at a time; who comes second looks again soon
    continue when not pg_try_advisory_xact_lock(
      hashtextextended('whatsapp claims of ' || held.integration_account_id::text, 0)
    );
    select jsonb_agg(jsonb_build_object(
      'id', found.id, 'lease_epoch', held.lease_epoch, 'paced_as', found.paced_as,
      'priority', found.priority, 'created_at', found.created_at
    )) into more
    from whatsapp_private.claimable_commands(
      held.integration_account_id, not held.takes_all,
      held.takes_all and held.status in ('connected', 'blocked'), p_limit,
      -- long lines of many accounts must not take the time of the statement
      case when clock_timestamp() < statement_timestamp() + interval '1 second' then 500 else 20 end
    ) as found;
    claimable := claimable || coalesce(more, '[]');
  end loop;

  return query
  with candidates as materialized (
    select found.id, found.lease_epoch, found.paced_as
    from jsonb_to_recordset(claimable) as found (
      id uuid, lease_epoch bigint, paced_as text, priority smallint, created_at timestamptz
    )
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
      attempts = command.attempts + 1, claims = command.claims + 1, paced_as = candidates.paced_as
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
            and head.wait_code is distinct from 'scheduled'
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
    whatsapp_private.payload_now(claimed.type, claimed.payload, conversation.disappears_after_s),
    claimed.attempts, claimed.claims, claimed.conversation_id, coalesce(conversation.chat_jid, claimed.chat_jid),
    claimed.message_id, claimed.expires_at, extract(epoch from clock_timestamp() - claimed.created_at)::double precision
  from claimed
  left join public.conversations as conversation on conversation.id = claimed.conversation_id
  order by claimed.priority desc, claimed.created_at, claimed.id;
end
$$;
comment on function public.bridge_claim_commands(uuid, integer) is
  'Takes due commands of accounts that the worker holds, best first, at most one of a conversation, and sends only as the pace of the account allows; expires overdue ones. A command is given out once, until it is finished or settled.';

create function whatsapp_private.finish_command(
  p_account uuid, p_command uuid, p_status text, p_result jsonb, p_error_code text, p_error_message text,
  p_retry_in_s double precision, p_claim integer, p_counts boolean
) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  finished public.commands;
  -- what did not leave because of a time-lock waits for its end, and was no try
  is_timelocked constant boolean := coalesce(p_status = 'failed' and p_error_code = 'reachout_timelock', false)
    and exists (select from public.commands where id = p_command and type = 'send');
  was_no_try constant boolean := is_timelocked or (p_status = 'pending' and not coalesce(p_counts, true));
begin
  if p_status is null or p_status not in ('done', 'failed', 'unknown', 'pending') then
    raise exception 'A command ends as done, failed, unknown or pending.' using errcode = '22023';
  end if;
  update public.commands as command
  set status = case when is_timelocked then 'pending' else p_status end,
    result = p_result,
    error_code = p_error_code,
    error_message = p_error_message,
    run_at = case
      when p_status = 'pending'
      then clock_timestamp() + make_interval(secs => least(greatest(coalesce(p_retry_in_s, 0), 0), 86400 * 30))
      else command.run_at
    end,
    wait_code = case
      when is_timelocked then 'reachout_timelock' when p_status = 'pending' then 'retry'
    end,
    attempts = command.attempts - was_no_try::integer,
    started_at = case when not was_no_try then command.started_at end,
    paced_as = case when not was_no_try then command.paced_as end,
    finished_at = case when p_status <> 'pending' and not is_timelocked then clock_timestamp() end
  where command.id = p_command
    and command.integration_account_id = p_account
    and command.status = 'running'
    and command.claims = coalesce(p_claim, command.claims)
  returning * into finished;
  if finished.id is null then
    return false;
  end if;
  if finished.status = 'unknown' and finished.type = 'send' and (
    exists (
      select from whatsapp_private.early_receipts as receipt
      where receipt.integration_account_id = p_account
        and receipt.whatsapp_message_id = finished.result ->> 'whatsapp_message_id'
    ) or exists (
      select from public.messages as echo
      where echo.conversation_id = finished.conversation_id
        and echo.from_me
        and echo.whatsapp_message_id = finished.result ->> 'whatsapp_message_id'
    )
  ) then
    -- the evidence was here before the question
    perform whatsapp_private.heed_evidence(
      p_account, finished.workspace_id, array[finished.result ->> 'whatsapp_message_id'], null
    );
  end if;
  if finished.status = 'failed' then
    update public.messages set status = 'failed', error_code = p_error_code
    where id = finished.message_id and status = 'pending';
  end if;
  if finished.type = 'send' and p_error_code is not null then
    perform whatsapp_private.heed_warning(finished);
  end if;
  return true;
end
$$;
comment on function whatsapp_private.finish_command(uuid, uuid, text, jsonb, text, text, double precision, integer, boolean) is
  'A running command ends, or is put back for a retry; false if it is not running (any more), or was taken again meanwhile. p_counts: whether it was a try.';

create function public.bridge_finish_command(
  p_worker uuid, p_account uuid, p_epoch bigint, p_command uuid, p_status text, p_result jsonb,
  p_error_code text, p_error_message text, p_retry_in_s double precision, p_claim integer default null,
  p_counts boolean default true
) returns boolean
language plpgsql
set search_path = ''
as $$
begin
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  return whatsapp_private.finish_command(
    p_account, p_command, p_status, p_result, p_error_code, p_error_message, p_retry_in_s, p_claim, p_counts
  );
end
$$;
comment on function public.bridge_finish_command(uuid, uuid, bigint, uuid, text, jsonb, text, text, double precision, integer, boolean) is
  'Ends a running command as done, failed or unknown, or puts it back (pending) for a retry, which was no try unless p_counts. A send that met WhatsApp''s time-lock waits for its end instead of failing. False if it is not running any more, or if p_claim is given and it was taken again. WB001 if the lease is lost.';

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

select whatsapp_private.give_to_the_bridge(
  'public.bridge_claim_commands(uuid, integer)',
  'public.bridge_finish_command(uuid, uuid, bigint, uuid, text, jsonb, text, text, double precision, integer, boolean)',
  'public.bridge_settle_commands(uuid, uuid, bigint, bigint)',
  'public.bridge_unread_messages(uuid, uuid, bigint, uuid, uuid)'
);
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
  claims integer,
  conversation_id uuid,
  chat_jid text,
  message_id uuid,
  expires_at timestamptz,
  age_s double precision
)
language sql stable
set search_path = ''
as $$
  select command.id, command.integration_account_id, command.lease_epoch, command.type,
    whatsapp_private.payload_now(command.type, command.payload, conversation.disappears_after_s),
    command.attempts, command.claims, command.conversation_id, coalesce(conversation.chat_jid, command.chat_jid),
    command.message_id, command.expires_at, extract(epoch from clock_timestamp() - command.created_at)::double precision
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
select whatsapp_private.give_to_the_bridge('public.bridge_running_commands(uuid, uuid[])');
