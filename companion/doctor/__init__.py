"""Is everything as it should be, and if not, what is to be done?"""
