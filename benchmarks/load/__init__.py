"""The whole service under load: offered and got, past saturation too; and for an hour on end."""
