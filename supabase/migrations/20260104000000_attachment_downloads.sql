-- Where the files of received messages come from, until they are stored. Apart from `attachments`,
-- which members read and Realtime publishes: what is in here opens a file at WhatsApp.
create table whatsapp_private.attachment_downloads (
  attachment_id uuid primary key references public.attachments (id) on delete cascade,
  integration_account_id uuid not null references public.integration_accounts (id) on delete cascade,
  kind text not null
    constraint attachment_downloads_kind_is_known check (kind in ('image', 'video', 'audio', 'document', 'sticker')),
  sealed jsonb not null,
  sent_at timestamptz not null,
  is_open boolean not null default true,
  run_at timestamptz not null default now(),
  attempts integer not null default 0,
  claimed_epoch bigint,
  created_at timestamptz not null default now()
);
create index attachment_downloads_newest_first
  on whatsapp_private.attachment_downloads (integration_account_id, is_open, sent_at desc, attachment_id);
comment on table whatsapp_private.attachment_downloads is
  'What is needed to fetch the file of a received message, sealed; and whose turn it is. Goes when the file is stored.';
comment on column whatsapp_private.attachment_downloads.attachment_id is 'The attachment.';
comment on column whatsapp_private.attachment_downloads.integration_account_id is 'The account that received it.';
comment on column whatsapp_private.attachment_downloads.kind is 'image, video, audio, document or sticker: each has its own keys at WhatsApp.';
comment on column whatsapp_private.attachment_downloads.sealed is 'Path and key of the file, sealed with BAILEYS_AUTH_SECRET.';
comment on column whatsapp_private.attachment_downloads.sent_at is 'When the message was sent: the newest files come first.';
comment on column whatsapp_private.attachment_downloads.is_open is 'Still to be done; false when it failed for good, in case somebody wants it later.';
comment on column whatsapp_private.attachment_downloads.run_at is 'Not before this.';
comment on column whatsapp_private.attachment_downloads.attempts is 'How often it was begun.';
comment on column whatsapp_private.attachment_downloads.claimed_epoch is 'The lease under which it is being fetched.';
comment on column whatsapp_private.attachment_downloads.created_at is 'When the row was inserted.';
revoke all on whatsapp_private.attachment_downloads from public, anon, authenticated, service_role;
grant select, insert, update, delete on whatsapp_private.attachment_downloads to service_role;

create index attachments_stored_by_hash on public.attachments (sha256) where status = 'stored';

-- Two rows for one message become one (absorb_message): the file is not listed twice.
create function whatsapp_private.keep_one_attachment() returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if exists (select from public.attachments where message_id = new.message_id and id <> new.id) then
    return null;  -- stays with the message that goes, and goes with it
  end if;
  return new;
end
$$;
comment on function whatsapp_private.keep_one_attachment() is
  'Trigger: an attachment does not move to a message that has one.';
create trigger attachments_stay_one_a_message
  before update of message_id on public.attachments
  for each row when (new.message_id is distinct from old.message_id)
  execute function whatsapp_private.keep_one_attachment();

create function whatsapp_private.image_data_url(p_base64 text) returns text
language sql immutable
set search_path = ''
as $$
  select case
    when p_base64 like 'iVBORw0KGgo%' then 'data:image/png;base64,' || p_base64
    when p_base64 <> '' then 'data:image/jpeg;base64,' || p_base64
  end
$$;
comment on function whatsapp_private.image_data_url(text) is
  'A small picture (JPEG or PNG, in base64) as a data URL; null if there is none.';

create function whatsapp_private.keep_attachment(
  p_message uuid, p_account uuid, p_workspace uuid, p_attachment jsonb
) returns void
language plpgsql
set search_path = ''
as $$
declare
  attachment uuid;
  has_source constant boolean := jsonb_typeof(p_attachment -> 'sealed') = 'object';
begin
  if p_attachment is null or jsonb_typeof(p_attachment) <> 'object' then
    return;
  end if;
  insert into public.attachments (
    workspace_id, message_id, mime_type, file_name, size_bytes, sha256, width, height, duration_s,
    waveform, thumbnail, status, error
  )
  select p_workspace, p_message,
    left(p_attachment ->> 'mime_type', 200),
    p_attachment ->> 'file_name',
    greatest((p_attachment ->> 'size_bytes')::bigint, 0),
    case when p_attachment ->> 'sha256' ~ '^[0-9a-f]{64}$' then p_attachment ->> 'sha256' end,
    (p_attachment ->> 'width')::integer,
    (p_attachment ->> 'height')::integer,
    (p_attachment ->> 'duration_s')::numeric,
    case when jsonb_typeof(p_attachment -> 'waveform') = 'array'
      then array(select value::smallint from jsonb_array_elements_text(p_attachment -> 'waveform') as value) end,
    whatsapp_private.image_data_url(p_attachment ->> 'thumbnail'),
    case when has_source then 'pending' else 'expired' end,
    case when not has_source then 'WhatsApp did not say where the file is.' end
  where not exists (select from public.attachments as other where other.message_id = p_message)
  returning id into attachment;
  if attachment is not null and has_source then
    insert into whatsapp_private.attachment_downloads (attachment_id, integration_account_id, kind, sealed, sent_at)
    select attachment, p_account, p_attachment ->> 'kind', p_attachment -> 'sealed', message.sent_at
    from public.messages as message where message.id = p_message;
  end if;
end
$$;
comment on function whatsapp_private.keep_attachment(uuid, uuid, uuid, jsonb) is
  'A message came with a file: one attachment, pending, however often it is told. p_attachment: {kind, sealed, mime_type, file_name, size_bytes, sha256, width, height, duration_s, waveform, thumbnail (base64 JPEG)}.';

create function public.bridge_claim_attachments(p_worker uuid, p_limit integer, p_known uuid[])
returns table (
  id uuid,
  account_id uuid,
  workspace_id uuid,
  lease_epoch bigint,
  conversation_id uuid,
  message_id uuid,
  kind text,
  mime_type text,
  file_name text,
  size_bytes bigint,
  sha256 text,
  sealed jsonb,
  attempts integer,
  media_limits jsonb
)
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
begin
  if p_limit is null or p_limit < 0 then
    raise exception 'A limit is not negative.' using errcode = '22023';
  end if;
  return query
  with held as materialized (
    select * from whatsapp_private.connected_accounts(p_worker)
  ),
  candidates as materialized (
    select found.attachment_id, held.lease_epoch
    from held
    cross join lateral (
      select download.attachment_id, download.sent_at
      from whatsapp_private.attachment_downloads as download
      where download.integration_account_id = held.account_id
        and download.is_open
        and download.run_at <= now()
        -- what was claimed under this lease and is not known: the answer to that claim was lost
        and download.attachment_id <> all (coalesce(p_known, '{}'))
      order by download.sent_at desc, download.attachment_id
      limit p_limit
    ) as found
    order by found.sent_at desc, found.attachment_id
    limit p_limit
  ),
  claimed as (
    update whatsapp_private.attachment_downloads as download
    set claimed_epoch = candidates.lease_epoch,
      attempts = download.attempts + (download.claimed_epoch is distinct from candidates.lease_epoch)::integer
    from candidates
    where download.attachment_id = candidates.attachment_id
      and download.is_open  -- once more, against what was finished since
    returning download.*
  )
  select attachment.id, claimed.integration_account_id, attachment.workspace_id, claimed.claimed_epoch,
    message.conversation_id, message.id, claimed.kind, attachment.mime_type, attachment.file_name,
    attachment.size_bytes, attachment.sha256, claimed.sealed, claimed.attempts,
    coalesce(account.settings -> 'media_limits', '{}')
  from claimed
  join public.attachments as attachment on attachment.id = claimed.attachment_id
  join public.messages as message on message.id = attachment.message_id
  join public.integration_accounts as account on account.id = claimed.integration_account_id
  order by claimed.sent_at desc, attachment.id;
end
$$;
comment on function public.bridge_claim_attachments(uuid, integer, uuid[]) is
  'Takes files that are to be fetched for connected accounts that the worker holds, the newest first, except those that it knows it has: what an answer that got lost gave out is given out again.';

create function public.bridge_find_stored_file(p_worker uuid, p_account uuid, p_epoch bigint, p_sha256 text)
returns text
language plpgsql
set search_path = ''
as $$
declare
  workspace constant uuid := whatsapp_private.fence(p_worker, p_account, p_epoch);
begin
  return (
    select attachment.path
    from public.attachments as attachment
    where attachment.sha256 = p_sha256
      and attachment.status = 'stored'
      and attachment.workspace_id = workspace
      and attachment.bucket = 'whatsapp-media'
      and starts_with(attachment.path, workspace::text || '/' || p_account::text || '/')
    order by attachment.created_at
    limit 1
  );
end
$$;
comment on function public.bridge_find_stored_file(uuid, uuid, bigint, text) is
  'Path of a file with these bytes that the account has in the bucket already; null if there is none. WB001 if the lease is lost.';

create function whatsapp_private.describe_attachment(p_attachment uuid, p_facts jsonb) returns void
language sql
set search_path = ''
as $$
  update public.attachments
  set path = coalesce(p_facts ->> 'path', path),
    mime_type = coalesce(p_facts ->> 'mime_type', mime_type),
    file_name = coalesce(p_facts ->> 'file_name', file_name),
    size_bytes = coalesce((p_facts ->> 'size_bytes')::bigint, size_bytes),
    sha256 = coalesce(p_facts ->> 'sha256', sha256),
    width = coalesce((p_facts ->> 'width')::integer, width),
    height = coalesce((p_facts ->> 'height')::integer, height),
    duration_s = coalesce((p_facts ->> 'duration_s')::numeric, duration_s),
    waveform = case when jsonb_typeof(p_facts -> 'waveform') = 'array'
      then array(select value::smallint from jsonb_array_elements_text(p_facts -> 'waveform') as value)
      else waveform end,
    thumbnail = coalesce(whatsapp_private.image_data_url(p_facts ->> 'thumbnail'), thumbnail)
  where id = p_attachment
$$;
comment on function whatsapp_private.describe_attachment(uuid, jsonb) is
  'What became known of a file; what is not in p_facts stays.';

create function public.bridge_finish_attachment(
  p_worker uuid, p_account uuid, p_epoch bigint, p_attachment uuid, p_status text, p_facts jsonb, p_error text,
  p_retry_in_s double precision, p_counts boolean
) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  is_ours boolean;
begin
  perform whatsapp_private.fence(p_worker, p_account, p_epoch);
  if p_status is null or p_status not in ('pending', 'stored', 'failed', 'expired') then
    raise exception 'An attachment ends as stored, failed or expired, or stays pending.' using errcode = '22023';
  elsif p_status = 'stored' and p_facts ->> 'path' is null then
    raise exception 'A stored file has a path.' using errcode = '22023';
  end if;
  update whatsapp_private.attachment_downloads
  set is_open = p_status = 'pending',
    claimed_epoch = null,
    attempts = attempts - (not coalesce(p_counts, true))::integer,
    run_at = clock_timestamp() + make_interval(secs => least(greatest(coalesce(p_retry_in_s, 0), 0), 86400 * 30))
  where attachment_id = p_attachment
    and integration_account_id = p_account
    and is_open
    and claimed_epoch = p_epoch
  returning true into is_ours;
  if is_ours is null then
    return false;
  end if;
  perform whatsapp_private.describe_attachment(p_attachment, coalesce(p_facts, '{}'));
  update public.attachments
  set status = p_status,
    error = p_error
  where id = p_attachment;
  if p_status = 'stored' then
    delete from whatsapp_private.attachment_downloads where attachment_id = p_attachment;
  end if;
  return true;
end
$$;
comment on function public.bridge_finish_attachment(uuid, uuid, bigint, uuid, text, jsonb, text, double precision, boolean) is
  'A file that was claimed is stored, failed or expired, or stays pending and is tried again (p_counts false: it was not begun, that is no attempt). False if it is not being fetched under this lease (any more). WB001 if the lease is lost.';

create function public.bridge_attach_to_send(
  p_worker uuid, p_account uuid, p_epoch bigint, p_command uuid, p_facts jsonb
) returns uuid
language plpgsql
set search_path = ''
as $$
declare
  workspace constant uuid := whatsapp_private.fence(p_worker, p_account, p_epoch);
  message uuid;
  attachment uuid;
begin
  select command.message_id into message
  from public.commands as command
  join public.messages as sent on sent.id = command.message_id
  where command.id = p_command
    and command.integration_account_id = p_account
    and command.type = 'send'
    and command.status = 'running';
  if message is null then
    return null;
  end if;
  if p_facts ->> 'path' is null then
    raise exception 'A file that is sent has a path.' using errcode = '22023';
  end if;
  select id into attachment from public.attachments where message_id = message;
  if attachment is null then
    insert into public.attachments (workspace_id, message_id) values (workspace, message)
    returning id into attachment;
  end if;
  perform whatsapp_private.describe_attachment(attachment, p_facts);
  update public.attachments set status = 'stored', error = null
  where id = attachment and (status, error) is distinct from ('stored', null);
  return attachment;
end
$$;
comment on function public.bridge_attach_to_send(uuid, uuid, bigint, uuid, jsonb) is
  'The message of a running send has this file, which is stored; again and again has the effect of once. Null if the command does not run. WB001 if the lease is lost.';

select whatsapp_private.give_to_the_bridge(
  'public.bridge_claim_attachments(uuid, integer, uuid[])',
  'public.bridge_find_stored_file(uuid, uuid, bigint, text)',
  'public.bridge_finish_attachment(uuid, uuid, bigint, uuid, text, jsonb, text, double precision, boolean)',
  'public.bridge_attach_to_send(uuid, uuid, bigint, uuid, jsonb)'
);
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
