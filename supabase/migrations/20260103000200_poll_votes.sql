-- What people chose in polls: the latest vote of each. The counts are in the payload of the poll's row.
create table public.poll_votes (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null,
  message_id uuid not null references public.messages (id) on delete cascade,
  lead_id uuid references public.leads (id) on delete cascade,
  sender_id text,
  options text[] not null default '{}',
  option_hashes text[] not null default '{}',
  voted_at timestamptz not null,
  constraint poll_votes_are_one_a_person unique nulls not distinct (message_id, lead_id)
);
create index poll_votes_by_lead on public.poll_votes (lead_id) where lead_id is not null;
create index poll_votes_by_workspace on public.poll_votes (workspace_id);
comment on table public.poll_votes is
  'Votes in polls: the latest of each person. The row of the poll counts them in payload.options[].votes.';
comment on column public.poll_votes.id is 'Identifier.';
comment on column public.poll_votes.workspace_id is 'The workspace.';
comment on column public.poll_votes.message_id is 'The message with the poll.';
comment on column public.poll_votes.lead_id is 'Who voted; null: the account itself.';
comment on column public.poll_votes.sender_id is 'JID of who voted.';
comment on column public.poll_votes.options is 'Names of the chosen options; empty when the vote was taken back.';
comment on column public.poll_votes.option_hashes is
  'The same as WhatsApp sends it: SHA-256 of the names, hexadecimal. An option that was added to the poll later has no name here.';
comment on column public.poll_votes.voted_at is 'When, by the clock of who voted.';

revoke all on public.poll_votes from public, anon, authenticated, service_role;
grant select on public.poll_votes to authenticated;
grant select, insert, update, delete on public.poll_votes to service_role;
alter table public.poll_votes enable row level security;
create policy "members read votes of their workspaces" on public.poll_votes
  for select to authenticated
  using (workspace_id in (select public.whatsapp_workspaces_of_caller('viewer')));

create function whatsapp_private.hash_of_option(p_name text) returns text
language sql immutable
set search_path = ''
as $$ select encode(sha256(convert_to(p_name, 'UTF8')), 'hex') $$;
comment on function whatsapp_private.hash_of_option(text) is 'How a vote names an option of a poll.';

create function whatsapp_private.count_poll_votes(p_message uuid) returns void
language sql
set search_path = ''
as $$
  update public.messages as message
  set payload = jsonb_set(message.payload, '{options}', (
    select coalesce(
      jsonb_agg(
        option.value || jsonb_build_object('votes', (
          select count(*) from public.poll_votes as vote
          where vote.message_id = p_message
            and whatsapp_private.hash_of_option(option.value ->> 'name') = any (vote.option_hashes)
        ))
        order by option.ordinality
      ),
      '[]'
    )
    from jsonb_array_elements(message.payload -> 'options') with ordinality as option
  ))
  where message.id = p_message and jsonb_typeof(message.payload -> 'options') = 'array'
$$;
comment on function whatsapp_private.count_poll_votes(uuid) is
  'Writes the number of votes to the options in the payload of a poll.';

create function whatsapp_private.keep_poll_vote(
  p_message uuid, p_lead uuid, p_sender text, p_option_hashes text[], p_at timestamptz
) returns boolean
language plpgsql
set search_path = ''
as $$
declare
  hashes constant text[] := array(select distinct lower(hash) from unnest(p_option_hashes) as hash order by 1);
begin
  insert into public.poll_votes as kept
    (workspace_id, message_id, lead_id, sender_id, options, option_hashes, voted_at)
  select message.workspace_id, message.id, p_lead, p_sender,
    array(
      select option.value ->> 'name'
      from jsonb_array_elements(
        case when jsonb_typeof(message.payload -> 'options') = 'array' then message.payload -> 'options' else '[]' end
      ) with ordinality as option
      where whatsapp_private.hash_of_option(option.value ->> 'name') = any (hashes)
      order by option.ordinality
    ),
    hashes, p_at
  from public.messages as message
  where message.id = p_message and message.tipo = 'poll'
  on conflict (message_id, lead_id) do update
  set options = excluded.options, option_hashes = excluded.option_hashes,
    voted_at = excluded.voted_at, sender_id = excluded.sender_id
  where (excluded.voted_at, excluded.option_hashes::text collate "C")
    > (kept.voted_at, kept.option_hashes::text collate "C");
  if not found then
    return false;
  end if;
  perform whatsapp_private.count_poll_votes(p_message);
  return true;
end
$$;
comment on function whatsapp_private.keep_poll_vote(uuid, uuid, text, text[], timestamptz) is
  'The vote of a person (null: the account itself) in a poll; the latest wins. False if nothing changed, or it is no poll.';
revoke all on all functions in schema whatsapp_private from public, anon, authenticated;
grant execute on all functions in schema whatsapp_private to service_role;
