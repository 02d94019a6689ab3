-- How large a file of each kind may be: by default, by account, and for the bucket as a whole.

-- Without a limit of its own a bucket has 50 MB in some installations. A project's limit, if lower, holds.
update storage.buckets set file_size_limit = 2147483648 where id = 'whatsapp-media';

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

-- The check of the other settings stays as it is; this one looks at its key only.
alter function whatsapp_private.account_settings_problem(jsonb) rename to plain_settings_problem;
create function whatsapp_private.account_settings_problem(p_settings jsonb) returns text
language sql immutable
set search_path = ''
as $$
  select coalesce(
    case when jsonb_typeof(p_settings) = 'object' and p_settings ? 'media_limits'
      then whatsapp_private.media_limits_problem(p_settings -> 'media_limits') end,
    whatsapp_private.plain_settings_problem(
      case when jsonb_typeof(p_settings) = 'object' then p_settings - 'media_limits' else p_settings end
    )
  )
$$;
comment on function whatsapp_private.plain_settings_problem(jsonb) is
  'What is wrong with the settings of an account that are single values, in one sentence; null if nothing is.';
comment on function whatsapp_private.account_settings_problem(jsonb) is
  'What is wrong with the settings of an account, in one sentence; null if nothing is.';
comment on column public.integration_accounts.settings is
  'Given at insert, editable, validated. history_days: days of history to ask for, 0 to 365 (default 14). '
  'default_country_code: prefix of phone numbers without one (default "55"). '
  'durability: "standard" (default) or "strict". messages_per_minute, 1 to 600 (default 20), '
  'messages_per_day, 1 to 100000 (default 1000), new_chats_per_day, 0 to 10000 (default 50): the pace of sending, '
  'validated here and not applied yet. receive_status_updates, receive_newsletters: whether posts of people''s '
  'status and of channels become conversations (default false). media_limits: the largest files, in bytes, as image_bytes (default 16777216), '
  'video_bytes (104857600), audio_bytes (16777216), document_bytes (104857600), sticker_bytes (1048576).';

revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
