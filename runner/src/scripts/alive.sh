# Says every five seconds that this script lives, on standard error, so that a long silent step is not taken for a broken
# stream. Ends with the script, however that ends, and holds nothing of its streams but that one.
(while sleep 5 2>/dev/null && kill -0 $$ 2>/dev/null; do echo >&2; done) </dev/null >/dev/null &
alive=$!
rest_in_silence() {
  kill $alive 2>/dev/null || :
  wait $alive 2>/dev/null || :
}
trap rest_in_silence EXIT
