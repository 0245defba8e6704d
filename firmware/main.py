# What a board runs after boot: the meter whose files lie in this folder.
from wattveil_meter import app

app.main()
