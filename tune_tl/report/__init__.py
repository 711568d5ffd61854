import logging

# Where it may not write below the home folder matplotlib says so, and works all the same.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
