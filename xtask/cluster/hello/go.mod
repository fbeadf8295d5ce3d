module podrun/cluster/hello

go 1.26
