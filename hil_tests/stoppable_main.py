# Test-only main: the meter as it is, but a PC's is interrupted by a file (main_recorder.py).
import main_recorder
from wattveil_meter import app

main_recorder.take_ctrl_c()
app.main()
