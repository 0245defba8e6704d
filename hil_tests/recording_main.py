# Test-only main: the meter as it is, but every noise share drawn is also written to shares.csv.
import main_recorder
from wattveil_meter import app

main_recorder.record("shares.csv")
app.main()
