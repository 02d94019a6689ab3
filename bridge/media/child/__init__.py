"""What runs in the workshop's processes; the parent never imports it.

looking      what a file is
transcoding  any audio becomes a voice note
sticking     any picture becomes a sticker
demuxing     opening audio and video, with the doors shut that strangers must not use
"""
