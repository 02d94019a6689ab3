-- The face of a WhatsApp account: what a frontend shows and subscribes to. People write the name
-- and the settings; everything else is written by the bridge alone (column grants).
create table public.integration_accounts (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  provider text not null default 'whatsapp_baileys'
    constraint integration_accounts_provider_is_known check (provider in ('whatsapp_baileys')),
  nome text not null
    constraint integration_accounts_nome_has_1_to_200_characters
    check (char_length(btrim(nome)) > 0 and char_length(nome) <= 200),
  status text not null default 'disconnected'
    constraint integration_accounts_status_is_known check (
      status in ('disconnected', 'connecting', 'qr_required', 'connected', 'logged_out', 'blocked', 'error')
    ),
  status_reason text,
  status_detail text,
  next_action text not null default 'none'
    constraint integration_accounts_next_action_is_known check (
      next_action in ('none', 'scan_qr', 'wait', 'relink', 'upgrade', 'unblock')
    ),
  retry_at timestamptz,
  numero text,
  instance_id text,
  lid text,
  last_qr text,
  qr_expires_at timestamptz,
  pairing_code text,
  sync_status text not null default 'idle'
    constraint integration_accounts_sync_status_is_known check (sync_status in ('idle', 'running', 'done', 'error')),
  sync_progress smallint not null default 0
    constraint integration_accounts_sync_progress_is_a_percentage check (sync_progress between 0 and 100),
  sync_error text,
  last_connected_at timestamptz,
  last_seen_at timestamptz,
  phone_last_seen_at timestamptz,
  timelock_until timestamptz,
  settings jsonb not null default '{}',
  created_by uuid default auth.uid() references auth.users (id) on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
-- Realtime leaves out a value that was stored out of line and did not change; a QR must stay in the row
alter table public.integration_accounts alter column last_qr set storage main;
create index integration_accounts_by_workspace on public.integration_accounts (workspace_id);
create index integration_accounts_by_creator on public.integration_accounts (created_by);

comment on table public.integration_accounts is
  'A WhatsApp account of a workspace. Subscribe to it: QR code, connection status and what a person has to do appear here.';
comment on column public.integration_accounts.id is 'Identifier.';
comment on column public.integration_accounts.workspace_id is 'The workspace it belongs to. Given at insert.';
comment on column public.integration_accounts.provider is 'Always whatsapp_baileys.';
comment on column public.integration_accounts.nome is 'Name shown to people. Given at insert, editable.';
comment on column public.integration_accounts.status is
  'disconnected, connecting, qr_required (show last_qr or pairing_code), connected, logged_out, blocked or error.';
comment on column public.integration_accounts.status_reason is 'Why, as a stable code.';
comment on column public.integration_accounts.status_detail is 'Why, as one sentence for a person.';
comment on column public.integration_accounts.next_action is
  'What a person has to do: none, scan_qr, wait (see retry_at), relink, upgrade or unblock.';
comment on column public.integration_accounts.retry_at is 'When the bridge tries again by itself.';
comment on column public.integration_accounts.numero is 'Own phone number in E.164 (+5511…), known once linked.';
comment on column public.integration_accounts.instance_id is 'Own JID.';
comment on column public.integration_accounts.lid is 'Own LID, WhatsApp''s other address of the same account.';
comment on column public.integration_accounts.last_qr is 'The QR code to scan, as a PNG data URL; null when there is nothing to scan.';
comment on column public.integration_accounts.qr_expires_at is 'Until when last_qr can be scanned.';
comment on column public.integration_accounts.pairing_code is 'The code to type on the phone, when connecting by code.';
comment on column public.integration_accounts.sync_status is 'History synchronisation: idle, running, done or error.';
comment on column public.integration_accounts.sync_progress is
  'History synchronisation in percent; begins anew only when a phone is linked.';
comment on column public.integration_accounts.sync_error is
  'What of the history is missing, or why it failed, as one sentence.';
comment on column public.integration_accounts.last_connected_at is 'When it was last logged in to WhatsApp.';
comment on column public.integration_accounts.last_seen_at is 'When WhatsApp was last heard from.';
comment on column public.integration_accounts.phone_last_seen_at is 'When the phone itself was last online; after about 14 days without it, WhatsApp unlinks.';
comment on column public.integration_accounts.timelock_until is 'Until when WhatsApp refuses messages to new contacts.';
comment on column public.integration_accounts.settings is
  'Given at insert, editable, validated. history_days: days of history to ask for, 0 to 365 (default 14). '
  'default_country_code: prefix of phone numbers without one (default "55"). '
  'durability: "standard" (default) or "strict". messages_per_minute, 1 to 600 (default 20), '
  'messages_per_day, 1 to 100000 (default 1000), new_chats_per_day, 0 to 10000 (default 50): the pace of sending, '
  'validated here and not applied yet. receive_status_updates, receive_newsletters: whether posts of people''s '
  'status and of channels become conversations (default false). receive_typing: whether who types is told on the private channel wa:<id>; '
  'the account looks online then, and its phone stops ringing (default false; from the next connection on). media_limits: the largest files, in bytes, as image_bytes (default 16777216), '
  'video_bytes (104857600), audio_bytes (16777216), document_bytes (104857600), sticker_bytes (1048576).';
comment on column public.integration_accounts.created_by is
  'The user who inserted it; counts towards the limit of accounts per user.';
comment on column public.integration_accounts.created_at is 'When the row was inserted.';
comment on column public.integration_accounts.updated_at is 'When a column last changed.';

create function whatsapp_private.settings_with_defaults(p_settings jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select '{"history_days": 14, "default_country_code": "55", "durability": "standard",
    "messages_per_minute": 20, "messages_per_day": 1000, "new_chats_per_day": 50,
    "receive_status_updates": false, "receive_newsletters": false,
    "receive_typing": false}'::jsonb || p_settings
$$;
comment on function whatsapp_private.settings_with_defaults(jsonb) is
  'The settings of an account as they apply: what is given, and defaults for the rest.';

create function whatsapp_private.is_whole_number_between(p_value jsonb, p_low integer, p_high integer) returns boolean
language sql immutable
set search_path = ''
as $$
  select coalesce(
    -- digits alone: 14.000… of any length is the same number
    case when jsonb_typeof(p_value) = 'number' and p_value::text ~ '^-?[0-9]{1,9}$'
      then p_value::integer between p_low and p_high
    end,
    false
  )
$$;
comment on function whatsapp_private.is_whole_number_between(jsonb, integer, integer) is
  'Whether a JSON value is a whole number in this range; never an error.';

create function whatsapp_private.media_limits_problem(p_limits jsonb) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when jsonb_typeof(p_limits) <> 'object' then 'settings.media_limits must be a JSON object.'
    else (
      select min(
        case
          when limits.key not in ('image_bytes', 'video_bytes', 'audio_bytes', 'document_bytes', 'sticker_bytes')
          then 'settings.media_limits has a key that is not known: ' || quote_literal(left(limits.key, 40)) || '.'
          when jsonb_typeof(limits.value) <> 'number'
            or (limits.value #>> '{}')::numeric <> trunc((limits.value #>> '{}')::numeric)
            or (limits.value #>> '{}')::numeric not between 1 and 2147483647
          then 'settings.media_limits.' || limits.key || ' must be a whole number from 1 to 2147483647.'
        end
      )
      from jsonb_each(p_limits) as limits
    )
  end
$$;
comment on function whatsapp_private.media_limits_problem(jsonb) is
  'What is wrong with the limits of files in an account''s settings, in one sentence; null if nothing is.';

create function whatsapp_private.account_settings_problem(p_settings jsonb) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when p_settings is null or jsonb_typeof(p_settings) <> 'object' then 'settings must be a JSON object.'
    else (
      select min(
        case setting.key
          when 'history_days' then case
            when not whatsapp_private.is_whole_number_between(setting.value, 0, 365)
            then 'settings.history_days must be a whole number from 0 to 365.' end
          when 'default_country_code' then case
            when jsonb_typeof(setting.value) <> 'string' or (setting.value #>> '{}') !~ '^[1-9][0-9]{0,2}$'
            then 'settings.default_country_code must be a string of 1 to 3 digits, for example "55".' end
          when 'durability' then case
            when setting.value not in ('"standard"', '"strict"')
            then 'settings.durability must be "standard" or "strict".' end
          when 'messages_per_minute' then case
            when not whatsapp_private.is_whole_number_between(setting.value, 1, 600)
            then 'settings.messages_per_minute must be a whole number from 1 to 600.' end
          when 'messages_per_day' then case
            when not whatsapp_private.is_whole_number_between(setting.value, 1, 100000)
            then 'settings.messages_per_day must be a whole number from 1 to 100000.' end
          when 'new_chats_per_day' then case
            when not whatsapp_private.is_whole_number_between(setting.value, 0, 10000)
            then 'settings.new_chats_per_day must be a whole number from 0 to 10000.' end
          when 'receive_status_updates' then case
            when jsonb_typeof(setting.value) <> 'boolean'
            then 'settings.receive_status_updates must be true or false.' end
          when 'receive_newsletters' then case
            when jsonb_typeof(setting.value) <> 'boolean'
            then 'settings.receive_newsletters must be true or false.' end
          when 'receive_typing' then case
            when jsonb_typeof(setting.value) <> 'boolean'
            then 'settings.receive_typing must be true or false.' end
          when 'media_limits' then whatsapp_private.media_limits_problem(setting.value)
          else 'settings has a key that is not known: ' || quote_literal(left(setting.key, 40)) || '.'
        end
      )
      from jsonb_each(p_settings) as setting
    )
  end
$$;
comment on function whatsapp_private.account_settings_problem(jsonb) is
  'What is wrong with the settings of an account, in one sentence; null if nothing is.';

-- security definer: counts the user's accounts in workspaces that the user may have left
create function whatsapp_private.check_account() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
  problem text := whatsapp_private.account_settings_problem(new.settings);
  allowed integer;
begin
  if problem is not null then
    raise exception '%', problem using errcode = '22023';
  end if;
  if new.nome is null or char_length(btrim(new.nome)) = 0 or char_length(new.nome) > 200 then
    raise exception 'The name of an account needs 1 to 200 characters.' using errcode = '22023';
  end if;
  if new.created_by is not null and (tg_op = 'INSERT' or new.created_by is distinct from old.created_by) then
    -- one insert of this user at a time, so that two cannot both take the last place
    perform pg_advisory_xact_lock(hashtextextended('whatsapp accounts of ' || new.created_by::text, 0));
    select accounts_per_user into allowed from whatsapp_private.limits;
    if (select count(*) from public.integration_accounts where created_by = new.created_by) >= allowed then
      raise exception 'You already have %: the limit of WhatsApp accounts per user.', allowed
        using errcode = '23514', hint = 'Delete one, or raise accounts_per_user in whatsapp_private.limits.';
    end if;
  end if;
  return new;
end
$$;
comment on function whatsapp_private.check_account() is
  'Trigger: settings are valid, and a user has at most so many accounts.';
create trigger integration_accounts_are_checked
  before insert or update of nome, settings, created_by on public.integration_accounts
  for each row execute function whatsapp_private.check_account();
create trigger integration_accounts_touch_updated_at
  before update on public.integration_accounts
  for each row when (old.* is distinct from new.*)
  execute function whatsapp_private.touch_updated_at();

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;

revoke all on public.integration_accounts from public, anon, authenticated, service_role;
grant select, delete, insert (workspace_id, nome, settings), update (nome, settings)
  on public.integration_accounts to authenticated;
grant select, insert, update, delete on public.integration_accounts to service_role;

alter table public.integration_accounts enable row level security;
create policy "members read accounts of their workspaces" on public.integration_accounts
  for select to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('viewer')));
create policy "agents add accounts to their workspaces" on public.integration_accounts
  for insert to authenticated
  with check (workspace_id in (select public.whatsapp_workspaces_of_caller('agent')));
create policy "agents edit accounts of their workspaces" on public.integration_accounts
  for update to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('agent')))
  with check (workspace_id in (select public.whatsapp_workspaces_of_caller('agent')));
create policy "admins delete accounts of their workspaces" on public.integration_accounts
  for delete to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('admin')));
