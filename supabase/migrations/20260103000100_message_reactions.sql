-- Who reacted with what. The row stays when a reaction is taken back, so that an older one, which
-- may arrive later, does not come to life again.
create table public.message_reactions (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  message_id uuid not null references public.messages (id) on delete cascade,
  lead_id uuid references public.leads (id) on delete cascade,
  sender_id text,
  emoji text
    constraint message_reactions_emoji_is_short check (char_length(emoji) between 1 and 64),
  reacted_at timestamptz not null,
  constraint message_reactions_are_one_a_person unique nulls not distinct (message_id, lead_id)
);
create index message_reactions_by_lead on public.message_reactions (lead_id) where lead_id is not null;
create index message_reactions_by_workspace on public.message_reactions (workspace_id);
comment on table public.message_reactions is
  'Emoji on messages: the latest of each person. Show those whose emoji is not null.';
comment on column public.message_reactions.id is 'Identifier.';
comment on column public.message_reactions.workspace_id is 'The workspace.';
comment on column public.message_reactions.message_id is 'The message.';
comment on column public.message_reactions.lead_id is 'Who reacted; null: the account itself.';
comment on column public.message_reactions.sender_id is 'JID of who reacted.';
comment on column public.message_reactions.emoji is 'The emoji; null when it was taken back.';
comment on column public.message_reactions.reacted_at is 'When, by the clock of who reacted.';

revoke all on public.message_reactions from public, anon, authenticated, service_role;
grant select on public.message_reactions to authenticated;
grant select, insert, update, delete on public.message_reactions to service_role;
alter table public.message_reactions enable row level security;
create policy "members read reactions of their workspaces" on public.message_reactions
  for select to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('viewer')));
alter publication supabase_realtime add table public.message_reactions;

create function whatsapp_private.keep_reaction(
  p_message uuid, p_lead uuid, p_sender text, p_emoji text, p_at timestamptz
) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  new_emoji constant text := nullif(left(p_emoji, 64), '');
begin
  insert into public.message_reactions as kept (workspace_id, message_id, lead_id, sender_id, emoji, reacted_at)
  select message.workspace_id, message.id, p_lead, p_sender, new_emoji, p_at
  from public.messages as message
  where message.id = p_message
  on conflict (message_id, lead_id) do update
  set emoji = excluded.emoji, reacted_at = excluded.reacted_at, sender_id = excluded.sender_id
  -- of two at the same time one wins, whichever came first
  where (excluded.reacted_at, coalesce(excluded.emoji, '') collate "C")
    > (kept.reacted_at, coalesce(kept.emoji, '') collate "C");
  return found;
end
$$;
comment on function whatsapp_private.keep_reaction(uuid, uuid, text, text, timestamptz) is
  'The reaction of a person (null: the account itself) to a message; the latest wins. False if nothing changed.';
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
