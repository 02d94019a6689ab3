// The same project through supabase-js (protocol version 2 of Realtime). Prints one JSON line a fact:
// {name, ok, seen}. test_supabase_js.py runs it and asserts each.
import { createClient } from "@supabase/supabase-js";
import ws from "ws";

const { SUPABASE_URL, ANON_KEY, SERVICE_KEY } = process.env;
const options = {
  realtime: { transport: ws },
  auth: { persistSession: false, autoRefreshToken: false },
};
const connect = (key) => createClient(SUPABASE_URL, key, options);
const service = connect(SERVICE_KEY);
const user = connect(ANON_KEY);
const other = connect(ANON_KEY);

const fact = (name, ok, seen) =>
  console.log(JSON.stringify({ name, ok: Boolean(ok), seen: ok ? null : (seen ?? null) }));

const until = async (ready) => {
  const deadline = Date.now() + 30_000;
  while (!ready() && Date.now() < deadline) await new Promise((go) => setTimeout(go, 5));
  return ready();
};

const signUp = async (client) => {
  const email = `js-${crypto.randomUUID()}@example.com`;
  return (await client.auth.signUp({ email, password: "correct horse battery" })).data;
};

const signedUp = await signUp(user);
fact("signing up logs in", signedUp.session, signedUp);
await signUp(other);

const phone = "+4915112345";
const { data: room, error } = await service.from("rooms").insert({ phone }).select().single();
fact("insert, select, single", room?.id, error);
await service.from("members").insert({ room_id: room.id, user_id: signedUp.user.id });

// ---------------------------------------------------------------- changes, as two people see them
const watch = async (client) => {
  const seen = [];
  const states = [];
  let live = false;
  const channel = client
    .channel(`room:${room.id}`)
    .on(
      "postgres_changes",
      { event: "*", schema: "public", table: "notes", filter: `room_id=eq.${room.id}` },
      (change) => seen.push(change),
    )
    .on("postgres_changes", { event: "UPDATE", schema: "public", table: "rooms" }, (change) =>
      seen.push(change),
    )
    .on("broadcast", { event: "typing" }, (message) => seen.push(message))
    .on("system", {}, (message) => (live ||= message.status === "ok"))
    .subscribe((state) => states.push(state));
  await until(() => live);
  return { channel, seen, states };
};
const mine = await watch(user);
const theirs = await watch(other);
fact(
  "both are subscribed",
  mine.states[0] === "SUBSCRIBED" && theirs.states[0] === "SUBSCRIBED",
  [mine.states, theirs.states],
);

const rows = [{ chat: "c", body: "hi", n: 3, payload: { a: [1] }, remote_id: "1" }];
const ingested = await service.rpc("ingest_notes", { room: room.id, rows });
fact("a function takes JSON and returns rows", ingested.data?.[0]?.inserted === 1, ingested);
await service.from("rooms").update({ state: "open" }).eq("id", room.id);
await until(() => mine.seen.length >= 2);
const [inserted, updated] = mine.seen;
fact(
  "a member is told of the insert and the update",
  inserted?.eventType === "INSERT" &&
    inserted.new.payload.a[0] === 1 &&
    inserted.new.n === 3 &&
    updated?.old.id === room.id,
  mine.seen,
);
// a socket keeps its order: what was sent to the stranger before this answer has come
await new Promise((come) => other.channel(crypto.randomUUID()).subscribe(come));
fact("a stranger is told nothing", theirs.seen.length === 0, theirs.seen);

await theirs.channel.send({ type: "broadcast", event: "typing", payload: { x: 1 } });
await until(() => mine.seen.length >= 3);
fact("a broadcast arrives (binary frame)", mine.seen[2]?.payload?.x === 1, mine.seen[2]);

// ---------------------------------------------------------------- rows
const queued = await user.from("jobs").insert({ room_id: room.id, kind: "send", args: { to: "x" } });
fact("a member inserts", queued.status === 201, queued);
const denied = await other.from("jobs").insert({ room_id: room.id, kind: "send" });
fact("a stranger does not", denied.error?.code === "42501" && denied.status === 403, denied);

const embedded = await user
  .from("notes")
  .select("id, body, rooms!inner(phone)", { count: "exact" })
  .eq("rooms.phone", phone);
fact(
  "an embed is filtered and counted",
  embedded.count === 1 && embedded.data[0].rooms.phone === phone,
  embedded,
);
const byPhone = await user.from("rooms").select("id").eq("phone", phone).eq("id", room.id);
fact("a phone number with + is found", byPhone.data?.length === 1, byPhone);
const head = await user.from("notes").select("*", { count: "exact", head: true });
fact("only the count", head.count === 1 && head.data === null, head);
const none = await user.from("rooms").select("id").eq("state", "nope").maybeSingle();
fact("none is no error", none.data === null && none.error === null, none);

// ---------------------------------------------------------------- files
const media = (client) => client.storage.from("media");
const path = `${room.id}/v.txt`;
const uploaded = await media(service).upload(path, new Blob(["hello"], { type: "text/plain" }));
fact("a file is uploaded", uploaded.data?.path === path, uploaded.error);
const signed = await media(service).createSignedUrl(path, 60);
const fetched = await fetch(signed.data.signedUrl);
fact(
  "a signed URL gives it",
  (await fetched.text()) === "hello" && fetched.headers.get("content-type").startsWith("text/plain"),
  signed,
);
const downloaded = await media(user).download(path);
fact("a policy lets a person read it", (await downloaded.data?.text()) === "hello", downloaded.error);
const forbidden = await media(user).upload("theirs/y", new Blob(["x"]));
fact("a policy stops them from writing", forbidden.error, forbidden);

// ---------------------------------------------------------------- sessions, presence
const refreshed = await user.auth.refreshSession();
fact("a session is refreshed", refreshed.data.session?.access_token, refreshed.error);
const me = await user.auth.getUser();
fact("the user is told who they are", me.data.user?.id === signedUp.user.id, me.error);

const states = [];
const presence = user.channel("presence", { config: { presence: { key: "me" } } });
presence
  .on("presence", { event: "sync" }, () => states.push(presence.presenceState()))
  .subscribe(async (state) => state === "SUBSCRIBED" && (await presence.track({ a: 1 })));
await until(() => states.some((state) => state.me?.[0]?.a === 1));
fact("presence is told", states.some((state) => state.me?.[0]?.a === 1), states);

process.exit(0);
