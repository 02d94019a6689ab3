"""Who runs where: leases, the supervisor, and the life of one account.

leases        what the database says is ours, asked every few seconds
supervisor    wanted against running; one task an account, with a crash barrier
account       one account: what it is to do now, and the requests of commands
surroundings  what all accounts share
plan          what one session is to do
session       one session, from opening to the last saved byte
opening       how it begins: from which state, and when it may connect
connection    what the engine tells of its connection: shown, and decided upon
link          what is known of that now
following     what a person does on the phone, beside messages
phone         whether the phone is still there
settling      what an earlier run left open
saver         the sealed copy of the session's state
ledger        sends without an outcome
ending        why a session ended
connect_rate  how many connect at a time
lifecycle     the state machine, as a table
face          `integration_accounts`, as frontends see it
history       what the phone sent of the past
typists       who types
leftovers     what is on this disk of accounts that another host took
qr            a code as a picture
"""
