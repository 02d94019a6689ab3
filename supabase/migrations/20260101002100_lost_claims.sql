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
