-- Nobody is spammed: how fast, when, and to whom an account may send. Claims ask these functions, so
-- several hosts cannot exceed a budget together; what waits is told why and until when in its own row.
-- docs/pacing.md lists the rules. Time is an argument everywhere.

create function whatsapp_private.cold_codes() returns text[]
language sql immutable
set search_path = ''
as $$
  select '{quiet_hours,reachout_timelock,too_many_failures,messages_per_day,new_chats_per_day,cold_gap}'::text[]
$$;
comment on function whatsapp_private.cold_codes() is 'Why messages to people who did not write lately wait.';

create function whatsapp_private.pacing_codes() returns text[]
language sql immutable
set search_path = ''
as $$
  select whatsapp_private.cold_codes()
    || '{account_paused,workspace_paused,sending_paused,account_blocked,messages_per_minute}'::text[]
$$;
comment on function whatsapp_private.pacing_codes() is 'Why sends wait because of a rule of pacing.';

create function whatsapp_private.limits_of(
  p_settings jsonb, p_linked_at timestamptz, p_at timestamptz,
  out messages_per_minute integer, out messages_per_day integer, out new_chats_per_day integer
)
language sql immutable
set search_path = ''
as $$
  select (p_settings ->> 'messages_per_minute')::integer,
    ceil((p_settings ->> 'messages_per_day')::integer * warmth.share)::integer,
    ceil((p_settings ->> 'new_chats_per_day')::integer * warmth.share)::integer
  from (
    select case (p_settings ->> 'warm_up_days')::integer
      when 0 then 1
      else least(
        1,
        0.2 + 0.8 * greatest(extract(epoch from p_at - coalesce(p_linked_at, p_at)), 0)
          / (86400 * (p_settings ->> 'warm_up_days')::integer)
      )
    end as share
  ) as warmth
$$;
comment on function whatsapp_private.limits_of(jsonb, timestamptz, timestamptz) is
  'The limits of an account at a time: a freshly linked number has a fifth of its daily limits, which rises evenly to the whole within warm_up_days.';

create function whatsapp_private.quiet_until(p_settings jsonb, p_at timestamptz) returns timestamptz
language plpgsql stable
set search_path = ''
as $$
declare
  zone constant text := p_settings ->> 'time_zone';
  local_at constant timestamp := p_at at time zone zone;
  begins time;
  ends time;
begin
  if coalesce(jsonb_typeof(p_settings -> 'quiet_hours'), 'null') = 'null' then
    return null;
  end if;
  begins := (p_settings #>> '{quiet_hours,from}')::time;
  ends := (p_settings #>> '{quiet_hours,to}')::time;
  if begins < ends then
    if local_at::time >= begins and local_at::time < ends then
      return (local_at::date + ends) at time zone zone;
    end if;
  elsif local_at::time >= begins then
    return (local_at::date + 1 + ends) at time zone zone;
  elsif local_at::time < ends then
    return (local_at::date + ends) at time zone zone;
  end if;
  return null;
end
$$;
comment on function whatsapp_private.quiet_until(jsonb, timestamptz) is
  'When the quiet hours end in which this time lies, by the clock of the account''s time zone; null outside of them.';

create function whatsapp_private.cold_gap(p_cold_gap_s integer, p_command uuid) returns interval
language sql immutable
set search_path = ''
as $$
  -- by chance, but the same each time it is asked for
  select make_interval(
    secs => p_cold_gap_s * (1 + ('x' || substr(md5(p_command::text), 1, 7))::bit(28)::integer / 268435456.0)::double precision
  )
$$;
comment on function whatsapp_private.cold_gap(integer, uuid) is
  'The pause after a cold message: once to twice the setting.';

create function whatsapp_private.is_warm(p_conversation uuid, p_settings jsonb) returns boolean
language sql stable
set search_path = ''
as $$
  select exists (
    select from public.messages as message
    where message.conversation_id = p_conversation
      and not message.from_me
      and message.tipo <> 'system'
      and message.sent_at >= now() - make_interval(
        days => (whatsapp_private.settings_with_defaults(p_settings) ->> 'warm_days')::integer
      )
  )
$$;
comment on function whatsapp_private.is_warm(uuid, jsonb) is
  'Whether somebody wrote in a conversation lately, by the settings of its account.';

create function whatsapp_private.contact_of(
  p_conversation uuid, p_warm_since timestamptz, p_asked_at timestamptz, out paced_as text, out opted_out boolean
)
language plpgsql stable
set search_path = ''
as $$
declare
  person record;
  latest record;
begin
  select conversation.kind, lead.opted_out_at into person
  from public.conversations as conversation
  left join public.leads as lead on lead.id = conversation.lead_id
  where conversation.id = p_conversation;
  select message.sent_at, message.created_at into latest
  from public.messages as message
  where message.conversation_id = p_conversation and not message.from_me and message.tipo <> 'system'
  order by message.sent_at desc
  limit 1;
  opted_out := coalesce(person.opted_out_at <= now(), false) and not coalesce(
    latest.sent_at > person.opted_out_at and latest.sent_at >= p_warm_since and latest.created_at <= p_asked_at, false
  );
  paced_as := case
    when latest.sent_at >= p_warm_since then 'warm'
    when person.kind is distinct from 'direct' then 'group'
    when latest.sent_at is not null or exists (
      select from public.messages as message
      where message.conversation_id = p_conversation and message.from_me and message.whatsapp_message_id is not null
    ) then 'cold'
    else 'new'
  end;
end
$$;
comment on function whatsapp_private.contact_of(uuid, timestamptz, timestamptz) is
  'As what a message to a conversation counts: warm (they wrote since then), group, cold, or new (nobody wrote yet). opted_out: the person does not want it; unless they wrote after opting out, and it was asked for after that.';

create function whatsapp_private.pace_of(
  p_account uuid, p_at timestamptz,
  out warm_since timestamptz,
  out all_code text, out all_until timestamptz,
  out cold_code text, out cold_until timestamptz,
  out timelock_until timestamptz,
  out messages_per_minute integer, out minute_left integer, out minute_until timestamptz,
  out messages_per_day integer, out cold_left integer, out cold_left_until timestamptz,
  out new_chats_per_day integer, out new_left integer, out new_left_until timestamptz,
  out cold_gap_s integer, out gap_conversation uuid, out gap_until timestamptz
)
language plpgsql stable
set search_path = ''
set enable_seqscan = off
as $$
declare
  account public.integration_accounts;
  settings jsonb;
  is_workspace_paused boolean;
  quiet_until timestamptz;
  last_cold record;
begin
  select * into account from public.integration_accounts where id = p_account;
  select sending_paused into is_workspace_paused from public.workspaces where id = account.workspace_id;
  settings := whatsapp_private.settings_with_defaults(account.settings);
  warm_since := p_at - make_interval(days => (settings ->> 'warm_days')::integer);
  select limits.* into messages_per_minute, messages_per_day, new_chats_per_day
  from whatsapp_private.limits_of(settings, account.linked_at, p_at) as limits;
  quiet_until := whatsapp_private.quiet_until(settings, p_at);
  timelock_until := case when account.timelock_until > p_at then account.timelock_until end;

  -- who waits for a person is looked at again each hour, and at once when the person acts
  if account.status = 'blocked' then
    all_code := 'account_blocked';
    all_until := case when account.retry_at > p_at then account.retry_at else p_at + interval '1 hour' end;
  elsif is_workspace_paused then
    all_code := 'workspace_paused';
    all_until := p_at + interval '1 hour';
  elsif account.sending_paused then
    all_code := 'account_paused';
    all_until := p_at + interval '1 hour';
  elsif account.sending_paused_until > p_at and account.sending_paused_reason is distinct from 'too_many_failures' then
    all_code := 'sending_paused';
    all_until := account.sending_paused_until;
  elsif quiet_until is not null and settings #>> '{quiet_hours,for}' = 'all' then
    all_code := 'quiet_hours';
    all_until := quiet_until;
  end if;
  if quiet_until is not null then
    cold_code := 'quiet_hours';
    cold_until := quiet_until;
  elsif account.sending_paused_until > p_at and account.sending_paused_reason = 'too_many_failures' then
    cold_code := 'too_many_failures';
    cold_until := account.sending_paused_until;
  end if;

  select messages_per_minute - count(*), coalesce(min(recent.started_at), p_at) + interval '1 minute'
  into minute_left, minute_until
  from (
    select command.started_at from public.commands as command
    where command.integration_account_id = p_account
      and command.paced_as is not null
      and command.started_at > p_at - interval '1 minute'
    order by command.started_at desc
    limit messages_per_minute
  ) as recent;
  select messages_per_day - count(*), coalesce(min(recent.started_at), p_at) + interval '1 day'
  into cold_left, cold_left_until
  from (
    select command.started_at from public.commands as command
    where command.integration_account_id = p_account
      and command.paced_as in ('group', 'cold', 'new')
      and command.started_at > p_at - interval '1 day'
    order by command.started_at desc
    limit messages_per_day
  ) as recent;
  select new_chats_per_day - count(*), coalesce(min(recent.started_at), p_at) + interval '1 day'
  into new_left, new_left_until
  from (
    select command.started_at from public.commands as command
    where command.integration_account_id = p_account
      and command.paced_as in ('group', 'cold', 'new')
      and command.paced_as = 'new'
      and command.started_at > p_at - interval '1 day'
    order by command.started_at desc
    limit new_chats_per_day
  ) as recent;

  cold_gap_s := (settings ->> 'cold_gap_s')::integer;
  select command.id, command.conversation_id, command.started_at into last_cold
  from public.commands as command
  where command.integration_account_id = p_account
    and command.paced_as in ('group', 'cold', 'new')
    and command.started_at > p_at - interval '1 hour'
  order by command.started_at desc
  limit 1;
  if last_cold.started_at + whatsapp_private.cold_gap(cold_gap_s, last_cold.id) > p_at then
    gap_conversation := last_cold.conversation_id;
    gap_until := last_cold.started_at + whatsapp_private.cold_gap(cold_gap_s, last_cold.id);
  end if;
end
$$;
comment on function whatsapp_private.pace_of(uuid, timestamptz) is
  'What an account may send at a time. all_code, all_until: nothing; cold_code, cold_until: nothing to people who did not write lately; the rest: how many more of each, and when there will be one again. Counted over the last minute and the last 24 hours.';

create function whatsapp_private.let_wait(p_commands uuid[], p_codes text[], p_until timestamptz[]) returns void
language sql
set search_path = ''
as $$
  with free as materialized (
    select command.id, told.code, told.until
    from unnest(p_commands, p_codes, p_until) as told (id, code, until)
    join public.commands as command on command.id = told.id
    where command.status = 'pending'
    for update of command skip locked
  )
  update public.commands as command
  set wait_code = free.code,
    run_at = greatest(least(free.until, command.expires_at), now())
  from free
  where command.id = free.id
$$;
comment on function whatsapp_private.let_wait(uuid[], text[], timestamptz[]) is
  'These commands wait, for that reason and until then; they are looked at when they expire, too.';

create function whatsapp_private.return_to_line(
  p_account uuid, p_codes text[], p_limit integer
) returns void
language sql
set search_path = ''
set enable_seqscan = off
as $$
  with due as materialized (
    select command.id from public.commands as command
    where command.integration_account_id = p_account
      and command.status = 'pending'
      and command.wait_code is not null
      and command.run_at <= now()
      and command.wait_code = any (p_codes)
    order by command.run_at, command.priority desc, command.created_at, command.id
    limit p_limit
    for update of command skip locked
  )
  update public.commands as command set wait_code = null from due where command.id = due.id
$$;
comment on function whatsapp_private.return_to_line(uuid, text[], integer) is
  'Commands whose time has come are in the line again, those that waited longest first.';

create function whatsapp_private.keep_waiting(
  p_account uuid, p_codes text[], p_and_line boolean, p_code text, p_until timestamptz, p_limit integer
) returns void
language sql
set search_path = ''
set enable_seqscan = off
as $$
  select whatsapp_private.let_wait(
    array_agg(waiting.id), array_agg(p_code), array_agg(p_until)
  )
  from (
    (
      select command.id from public.commands as command
      where command.integration_account_id = p_account
        and command.status = 'pending'
        and command.wait_code is not null
        and command.run_at <= now()
        and command.wait_code = any (p_codes)
      order by command.run_at, command.priority desc, command.created_at, command.id
      limit p_limit
    )
    union all
    (
      select command.id from public.commands as command
      where p_and_line
        and command.integration_account_id = p_account
        and command.status = 'pending'
        and command.wait_code is null
        and command.type = 'send'
      order by command.priority desc, command.is_cold, command.created_at, command.id
      limit p_limit
    )
  ) as waiting
  having count(*) > 0
$$;
comment on function whatsapp_private.keep_waiting(uuid, text[], boolean, text, timestamptz, integer) is
  'Sends that wait (and, if asked, those in the line) wait longer, each told once.';

create function whatsapp_private.apply_pace(p_account uuid, p_pace record, p_most_told integer) returns void
language plpgsql
set search_path = ''
as $$
declare
  back text[] := whatsapp_private.pacing_codes();
begin
  if p_pace.all_code is not null then
    perform whatsapp_private.keep_waiting(p_account, back, true, p_pace.all_code, p_pace.all_until, p_most_told);
    return;
  elsif p_pace.minute_left <= 0 then
    -- only who comes next is told: the others move up within the minute
    perform whatsapp_private.keep_waiting(p_account, back, true, 'messages_per_minute', p_pace.minute_until, 20);
    return;
  end if;
  if p_pace.cold_code is not null then
    perform whatsapp_private.keep_waiting(
      p_account, whatsapp_private.cold_codes(), false, p_pace.cold_code, p_pace.cold_until, p_most_told
    );
    back := array(select unnest(back) except select unnest(whatsapp_private.cold_codes()));
  elsif p_pace.cold_left <= 0 then
    perform whatsapp_private.keep_waiting(
      p_account, whatsapp_private.cold_codes(), false, 'messages_per_day', p_pace.cold_left_until, p_most_told
    );
    back := array(select unnest(back) except select unnest(whatsapp_private.cold_codes()));
  else
    if p_pace.new_left <= 0 then
      perform whatsapp_private.keep_waiting(
        p_account, '{new_chats_per_day}', false, 'new_chats_per_day', p_pace.new_left_until, p_most_told
      );
      back := array_remove(back, 'new_chats_per_day');
    end if;
    if p_pace.timelock_until is not null then
      perform whatsapp_private.keep_waiting(
        p_account, '{reachout_timelock}', false, 'reachout_timelock', p_pace.timelock_until, p_most_told
      );
      back := array_remove(back, 'reachout_timelock');
    end if;
    if p_pace.gap_until is not null then
      back := array_remove(back, 'cold_gap');
    end if;
  end if;
  -- no more than may go now, and a few that turn out to wait for something else
  perform whatsapp_private.return_to_line(p_account, back, p_pace.minute_left + 20);
end
$$;
comment on function whatsapp_private.apply_pace(uuid, record, integer) is
  'Before the line is looked at: who waited and may go is in it again, who may not is told until when.';

create function whatsapp_private.refuse_opted_out(p_commands uuid[]) returns void
language sql
set search_path = ''
as $$
  with refused as (
    update public.commands as command
    set status = 'failed', finished_at = clock_timestamp(), error_code = 'opted_out',
      error_message = 'The person asked not to be written to, and has not written since.'
    where command.id in (
      select free.id from public.commands as free
      where free.id = any (p_commands) and free.status = 'pending'
      for update skip locked
    )
    returning command.message_id
  )
  update public.messages as message
  set status = 'failed', error_code = 'opted_out'
  from refused
  where message.id = refused.message_id and message.status = 'pending'
$$;
comment on function whatsapp_private.refuse_opted_out(uuid[]) is
  'Sends to people who opted out fail; they count for nothing.';

create function whatsapp_private.heed_warning(p_command public.commands) returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
declare
  refusals constant text[] := '{rejected_by_whatsapp,recipient_not_on_whatsapp,rate_limited}';
  account public.integration_accounts;
  applied jsonb;
  lock_until timestamptz;
  counted integer;
begin
  if p_command.error_code <> 'reachout_timelock' and p_command.error_code <> all (refusals) then
    return;
  end if;
  select * into account from public.integration_accounts where id = p_command.integration_account_id for no key update;
  applied := whatsapp_private.settings_with_defaults(account.settings);

  if p_command.error_code = 'reachout_timelock' then
    -- WhatsApp does not say how long
    lock_until := greatest(
      account.timelock_until, clock_timestamp() + make_interval(hours => (applied ->> 'timelock_hours')::integer)
    );
    if coalesce(account.timelock_until <= clock_timestamp(), true) then
      update public.integration_accounts set timelock_until = lock_until where id = account.id;
      insert into public.whatsapp_baileys_events (workspace_id, integration_account_id, level, code, message, context)
      values (
        account.workspace_id, account.id, 'warning', 'reachout_timelock',
        'WhatsApp does not let this account start new chats. Cold messages wait.',
        jsonb_build_object('until', lock_until)
      );
    else
      lock_until := account.timelock_until;
    end if;
    update public.commands set run_at = least(lock_until, expires_at)
    where id = p_command.id and status = 'pending';
    return;
  end if;

  if p_command.error_code = 'rate_limited' then
    update public.integration_accounts
    set sending_paused_until = clock_timestamp() + interval '1 minute', sending_paused_reason = 'rate_limited'
    where id = account.id and coalesce(sending_paused_until < clock_timestamp() + interval '1 minute', true);
    return;
  end if;

  select count(*) filter (where latest.error_code = any (refusals)) into counted
  from (
    select command.error_code from public.commands as command
    where command.integration_account_id = account.id
      and command.type = 'send'
      and command.status in ('done', 'failed')
      -- what led to the last pause does not lead to the next one
      and command.finished_at > coalesce(account.sending_paused_until, '-infinity')
    order by command.finished_at desc
    limit 20
  ) as latest;
  if counted >= (applied ->> 'pause_after_failures')::integer and (applied ->> 'pause_after_failures')::integer > 0 then
    update public.integration_accounts
    set sending_paused_until = clock_timestamp() + make_interval(mins => (applied ->> 'pause_minutes')::integer),
      sending_paused_reason = 'too_many_failures'
    where id = account.id;
    insert into public.whatsapp_baileys_events (workspace_id, integration_account_id, level, code, message, context)
    values (
      account.workspace_id, account.id, 'warning', 'too_many_failures',
      'WhatsApp refused many of the last messages. Cold ones wait.',
      jsonb_build_object('refused', counted, 'of_the_last', 20)
    );
  end if;
end
$$;
comment on function whatsapp_private.heed_warning(public.commands) is
  'A send ended with a warning of WhatsApp''s: a time-lock, a request to slow down, or the last of too many refusals. The account pauses.';

create function whatsapp_private.watch_account() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if new.numero is not null and (new.linked_at is null or new.numero is distinct from old.numero) then
    new.linked_at := now();
  end if;
  if new.sending_paused_until is null and old.sending_paused_until is not null then
    new.sending_paused_until := now();  -- from here on failures count anew
  end if;
  if new.sending_paused_until is distinct from old.sending_paused_until
    and new.sending_paused_reason is not distinct from old.sending_paused_reason
    and current_setting('role', true) in ('anon', 'authenticated')
  then
    new.sending_paused_reason := null;
  end if;
  return new;
end
$$;
comment on function whatsapp_private.watch_account() is
  'Trigger: when a number was linked, and what a member means who changes a pause.';
create trigger integration_accounts_note_numbers_and_pauses
  before update of numero, sending_paused_until on public.integration_accounts
  for each row execute function whatsapp_private.watch_account();

create function whatsapp_private.look_again(p_account uuid) returns void
language sql
set search_path = ''
set enable_seqscan = off
as $$
  with waiting as materialized (
    select command.id from public.commands as command
    where command.integration_account_id = p_account
      and command.status = 'pending'
      and command.wait_code is not null
      and command.wait_code not in ('scheduled', 'retry')
      and command.run_at > now()
    order by command.run_at, command.priority desc, command.created_at, command.id
    limit 5000  -- within a statement's time; who is behind is looked at when its time comes
    for update of command skip locked
  )
  update public.commands as command set run_at = now() from waiting where command.id = waiting.id
$$;
comment on function whatsapp_private.look_again(uuid) is
  'A rule was loosened: sends that wait for it are looked at again at once, the next 5,000 of an account.';

-- security definer: a member who changes a setting may not change commands
create function whatsapp_private.look_again_at_account() returns trigger
language plpgsql security definer
set search_path = ''
set enable_seqscan = off
as $$
begin
  perform whatsapp_private.look_again(new.id);
  return null;
end
$$;
comment on function whatsapp_private.look_again_at_account() is
  'Trigger: a rule was loosened, so whoever waits is looked at again at once.';
create trigger integration_accounts_let_go
  after update of settings, status, sending_paused, sending_paused_until, timelock_until on public.integration_accounts
  for each row when (
    new.settings is distinct from old.settings
    or (old.sending_paused and not new.sending_paused)
    or old.sending_paused_until > coalesce(new.sending_paused_until, '-infinity')
    or old.timelock_until > coalesce(new.timelock_until, '-infinity')
    or (old.status = 'blocked' and new.status <> 'blocked')
  )
  execute function whatsapp_private.look_again_at_account();

-- security definer: an admin who flips the switch may not change commands
create function whatsapp_private.look_again_at_workspace() returns trigger
language plpgsql security definer
set search_path = ''
set enable_seqscan = off
as $$
begin
  perform whatsapp_private.look_again(account.id)
  from public.integration_accounts as account where account.workspace_id = new.id
  order by account.id;
  return null;
end
$$;
comment on function whatsapp_private.look_again_at_workspace() is
  'Trigger: the workspace sends again, so whoever waits is looked at at once.';
create trigger workspaces_let_go
  after update of sending_paused on public.workspaces
  for each row when (old.sending_paused and not new.sending_paused)
  execute function whatsapp_private.look_again_at_workspace();

create function whatsapp_private.warm_up_conversation() returns trigger
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
begin
  update public.commands as command
  set is_cold = false,
    wait_code = case when command.wait_code = any (whatsapp_private.cold_codes()) then null else command.wait_code end,
    run_at = case when command.wait_code = any (whatsapp_private.cold_codes()) then now() else command.run_at end
  where command.conversation_id = new.conversation_id
    and command.status = 'pending'
    -- also what is no message, and only waits behind one
    and (command.is_cold or command.wait_code = any (whatsapp_private.cold_codes()));
  return null;
end
$$;
comment on function whatsapp_private.warm_up_conversation() is
  'Trigger: somebody wrote, so what waited because they had not is in the line again.';
create trigger messages_warm_up_their_conversation
  after insert on public.messages
  for each row when (not new.from_me and new.tipo <> 'system')
  execute function whatsapp_private.warm_up_conversation();

-- security definer: a member who cancels a command may not change others
create function whatsapp_private.let_the_next_go() returns trigger
language plpgsql security definer
set search_path = ''
set enable_seqscan = off
as $$
begin
  update public.commands as command
  set wait_code = null, run_at = now()
  where command.conversation_id = new.conversation_id
    and command.status = 'pending'
    and command.type <> 'send'
    and command.wait_code = any (whatsapp_private.pacing_codes());
  return null;
end
$$;
comment on function whatsapp_private.let_the_next_go() is
  'Trigger: a send ended without its turn; what is no message, and waited behind it only, is in the line again.';
create trigger commands_let_the_next_go
  after update of status on public.commands
  for each row when (
    old.status = 'pending' and new.status not in ('pending', 'running')
    and new.type = 'send' and new.wait_code is not null
  )
  execute function whatsapp_private.let_the_next_go();

-- security definer: members ask it, and may not call the inner functions; answers for their accounts only
create function public.whatsapp_account_pace(p_account uuid)
returns table (
  messages_per_minute integer, messages_left_this_minute integer,
  messages_per_day integer, cold_messages_left_today integer,
  new_chats_per_day integer, new_chats_left_today integer,
  waits_code text, waits_until timestamptz, cold_waits_code text, cold_waits_until timestamptz
)
language sql stable security definer
set search_path = ''
as $$
  select pace.messages_per_minute, pace.minute_left, pace.messages_per_day, pace.cold_left,
    pace.new_chats_per_day, pace.new_left,
    coalesce(pace.all_code, case when pace.minute_left <= 0 then 'messages_per_minute' end),
    coalesce(pace.all_until, case when pace.minute_left <= 0 then pace.minute_until end),
    case
      when pace.cold_code is not null then pace.cold_code
      when pace.timelock_until is not null then 'reachout_timelock'
      when pace.cold_left <= 0 then 'messages_per_day'
      when pace.new_left <= 0 then 'new_chats_per_day'
      when pace.gap_until is not null then 'cold_gap'
    end,
    case
      when pace.cold_code is not null then pace.cold_until
      when pace.timelock_until is not null then pace.timelock_until
      when pace.cold_left <= 0 then pace.cold_left_until
      when pace.new_left <= 0 then pace.new_left_until
      else pace.gap_until
    end
  from public.integration_accounts as account
  cross join lateral whatsapp_private.pace_of(account.id, now()) as pace
  where account.id = p_account
    and (
      current_setting('role', true) not in ('anon', 'authenticated')
      or account.workspace_id in (select public.whatsapp_workspaces_of_caller('viewer'))
    )
$$;
comment on function public.whatsapp_account_pace(uuid) is
  'What an account of one of the caller''s workspaces may send now; view whatsapp_account_pacing shows it for all of them.';
revoke all on function public.whatsapp_account_pace(uuid) from public, anon, authenticated, service_role;
grant execute on function public.whatsapp_account_pace(uuid) to authenticated, service_role;

create view public.whatsapp_account_pacing
with (security_invoker = true)
as
select account.id as integration_account_id, account.workspace_id, account.nome, account.linked_at,
  pace.messages_per_minute, pace.messages_left_this_minute, pace.messages_per_day, pace.cold_messages_left_today,
  pace.new_chats_per_day, pace.new_chats_left_today,
  pace.waits_code, pace.waits_until, pace.cold_waits_code, pace.cold_waits_until,
  next.id as next_command_id, next.wait_code as next_wait_code, next.run_at as next_run_at
from public.integration_accounts as account
cross join lateral public.whatsapp_account_pace(account.id) as pace
left join lateral (
  select command.id, command.wait_code, command.run_at
  from public.commands as command
  where command.integration_account_id = account.id
    and command.status = 'pending'
    and command.wait_code is not null
    and command.wait_code not in ('scheduled', 'retry')
  order by command.run_at, command.priority desc, command.created_at, command.id
  limit 1
) as next on true;
comment on view public.whatsapp_account_pacing is
  'What each account may send now, and why its next message waits. docs/pacing.md explains the codes.';
comment on column public.whatsapp_account_pacing.integration_account_id is 'The account.';
comment on column public.whatsapp_account_pacing.workspace_id is 'The workspace.';
comment on column public.whatsapp_account_pacing.nome is 'Name of the account.';
comment on column public.whatsapp_account_pacing.linked_at is 'Since when the number is linked; daily limits rise from here on.';
comment on column public.whatsapp_account_pacing.messages_per_minute is 'Limit of messages in any minute.';
comment on column public.whatsapp_account_pacing.messages_left_this_minute is 'How many may go now.';
comment on column public.whatsapp_account_pacing.messages_per_day is
  'Limit, at the present age of the number, of messages in 24 hours to people and groups that did not write lately.';
comment on column public.whatsapp_account_pacing.cold_messages_left_today is 'How many of those are left.';
comment on column public.whatsapp_account_pacing.new_chats_per_day is
  'Limit, at the present age of the number, of first messages to somebody in 24 hours.';
comment on column public.whatsapp_account_pacing.new_chats_left_today is 'How many of those are left.';
comment on column public.whatsapp_account_pacing.waits_code is 'Why nothing at all may go now; null if something may.';
comment on column public.whatsapp_account_pacing.waits_until is 'Until when (an hour ahead if that is up to a person).';
comment on column public.whatsapp_account_pacing.cold_waits_code is
  'Why some or all messages to people who did not write lately may not go now.';
comment on column public.whatsapp_account_pacing.cold_waits_until is 'Until when.';
comment on column public.whatsapp_account_pacing.next_command_id is 'The send that waits and is looked at next.';
comment on column public.whatsapp_account_pacing.next_wait_code is 'Why it waits.';
comment on column public.whatsapp_account_pacing.next_run_at is 'Until when.';
revoke all on public.whatsapp_account_pacing from public, anon, authenticated, service_role;
grant select on public.whatsapp_account_pacing to authenticated, service_role;

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
