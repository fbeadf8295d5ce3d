# Lists the files of the directories given, reads which of them are wanted, sends those as a tar on standard output and
# their SHA-256 on standard error. Standard input: a line with a number of bytes, then as many bytes of names, one a line.
set -eu
cd /podrun
find "$@" -type f -print0
printf '\0'
find "$@" -type l -exec sh -c 'for link; do printf "%s\0" "$link"; readlink -n "$link"; printf "\0"; done' podrun {} +
printf '\0'
read -r bytes
[ "$bytes" -gt 0 ] || exit 0
list=/podrun-helper/list.$$
head -c "$bytes" >$list
tr '\n' '\0' <$list | xargs -0 sha256sum >$list.sums &
sums=$!
tar -cf - -T $list
wait $sums
echo podrun:sums >&2
cat $list.sums >&2
rm -f $list $list.sums
