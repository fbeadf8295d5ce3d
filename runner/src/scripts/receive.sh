# Receives one unit of input files on standard input: UNIT BYTES SHA256 PATH MODE LAST
# A unit is one file, or a tar of small ones if PATH is empty. Standard output stays open to the end: the runtime closes
# standard input as soon as nobody holds it. Each stream writes a file of its own; what an earlier, broken one left is taken
# over, once its process was ended, which may still be alive: bytes of it that come even later spoil the sum, and nothing else.
set -eu
umask 000
unit=$1 bytes=$2 sum=$3 path=$4 mode=$5 last=$6
finish() {
  : >/podrun-helper/done.$unit
  [ "$last" = 0 ] || : >/podrun-helper/staged
  echo done
  exit 0
}
[ ! -e /podrun-helper/done.$unit ] || finish
mkdir -p /podrun/tmp /podrun/work
chmod 777 /podrun/work
part=/podrun/tmp/$unit.$$
for old in /podrun/tmp/$unit.*; do
  if [ -f "$old" ] && [ "$old" != "$part" ]; then
    pid=${old##*.}
    # Numbers are used again: it is killed only if it is who it says.
    case $(head -c 65536 /proc/$pid/cmdline 2>/dev/null) in
      *podrun"$unit"*) kill -KILL $pid || : ;;
    esac
    mv -f "$old" "$part"
  fi
done
have=0
[ ! -f "$part" ] || have=$(wc -c <"$part")
if [ "$have" -gt "$bytes" ]; then
  rm "$part"
  have=0
fi
echo "have $have"
if ! dd bs=64k iflag=count_bytes,fullblock count=0 </dev/null >/dev/null 2>&1; then
  head -c $((bytes - have)) >>"$part"
else
  dd bs=64k iflag=count_bytes,fullblock count=$((bytes - have)) 2>/dev/null >>"$part"
fi
# By its directory entry: a small wc reads the whole file, slower than its sum is made.
if [ -z "$(find "$part" -size "${bytes}c")" ]; then
  echo short
  exit 3
fi
if [ "$(sha256sum <"$part" | head -c 64)" != "$sum" ]; then
  rm "$part"
  echo damaged
  exit 4
fi
if [ -n "$path" ]; then
  case $path in */*) mkdir -p "/podrun/work/${path%/*}" ;; esac
  chmod "$mode" "$part"
  mv -f "$part" "/podrun/work/$path"
else
  tar -xof "$part" -C /podrun/work
  rm "$part"
fi
finish
