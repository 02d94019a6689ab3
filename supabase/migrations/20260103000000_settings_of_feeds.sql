-- Status posts and channels are no conversations of a team: they come only if the account asks for them.

do $$
declare
  found text;
begin
  select string_agg(collision.what, ', ' order by collision.what) into found
  from (
    select 'table public.' || class.relname as what
    from pg_catalog.pg_class as class
    where class.relnamespace = 'public'::regnamespace
      and class.relname in ('message_reactions', 'poll_votes')
    union
    select 'function public.' || function.proname
    from pg_catalog.pg_proc as function
    where function.pronamespace = 'public'::regnamespace
      and function.proname in (
        'bridge_claim_attachments', 'bridge_find_stored_file', 'bridge_finish_attachment',
        'bridge_attach_to_send', 'bridge_command_context', 'bridge_record_history',
        'bridge_begin_history', 'bridge_history_state', 'bridge_finish_history'
      )
  ) as collision;
  if found is not null then
    raise exception 'wabridge cannot be updated here, because this project already has: %. Nothing was changed.', found
      using errcode = 'duplicate_object',
        hint = 'Rename what is listed, or move it to another schema, then run `supabase db push` again.';
  end if;
end
$$;

create or replace function whatsapp_private.settings_with_defaults(p_settings jsonb) returns jsonb
language sql immutable
set search_path = ''
as $$
  select '{"history_days": 14, "default_country_code": "55", "durability": "standard",
    "messages_per_minute": 20, "messages_per_day": 1000, "new_chats_per_day": 50,
    "receive_status_updates": false, "receive_newsletters": false}'::jsonb || p_settings
$$;

create or replace function whatsapp_private.account_settings_problem(p_settings jsonb) returns text
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
          else 'settings has a key that is not known: ' || quote_literal(left(setting.key, 40)) || '.'
        end
      )
      from jsonb_each(p_settings) as setting
    )
  end
$$;

create function whatsapp_private.without_unwanted_feeds(p_account uuid, p_events jsonb) returns jsonb
language sql stable
set search_path = ''
as $$
  select case
    when not p_events @? '$[*] ? (@.chat.kind == "status" || @.chat.kind == "newsletter")' then p_events
    else (
      select coalesce(jsonb_agg(event order by place), '[]')
      from jsonb_array_elements(p_events) with ordinality as told (event, place),
        (
          select whatsapp_private.settings_with_defaults(account.settings) as settings
          from public.integration_accounts as account where account.id = p_account
        ) as chosen
      where case told.event #>> '{chat,kind}'
        when 'status' then (chosen.settings ->> 'receive_status_updates')::boolean
        when 'newsletter' then (chosen.settings ->> 'receive_newsletters')::boolean
        else true
      end
    )
  end
$$;
comment on function whatsapp_private.without_unwanted_feeds(uuid, jsonb) is
  'The events of a batch without those of status posts and channels, unless the settings of the account want them.';

comment on column public.integration_accounts.settings is
  'Given at insert, editable, validated. history_days: days of history to ask for, 0 to 365 (default 14). '
  'default_country_code: prefix of phone numbers without one (default "55"). '
  'durability: "standard" (default) or "strict". messages_per_minute, 1 to 600 (default 20), '
  'messages_per_day, 1 to 100000 (default 1000), new_chats_per_day, 0 to 10000 (default 50): the pace of sending, '
  'validated here and not applied yet. receive_status_updates, receive_newsletters: whether posts of people''s '
  'status and of channels become conversations (default false).';
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
