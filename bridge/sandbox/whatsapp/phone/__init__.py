"""A simulated WhatsApp user: the primary phone, with real end-to-end encryption."""
