"""The control API: HTTP and JSON, for people and tests that play the phones.

app            the routes
bodies         what requests say, and the errors they are answered with
answers        what is said about phones, groups and the server
sending        a phone sends
group_changes  what an admin does
qr_image       the text of a QR code in an image
"""
