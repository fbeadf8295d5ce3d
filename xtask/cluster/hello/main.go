// Command hello is the only file of an image without a shell. It prints its arguments and its environment, and ends with the
// code that `exit N` among its arguments asks for; `sleep SECONDS` makes it wait, `cat FILE` prints a file.
package main

import (
	"fmt"
	"os"
	"sort"
	"strconv"
	"time"
)

func main() {
	code := 0
	arguments := os.Args[1:]
	fmt.Printf("arguments: %q\n", arguments)
	environment := os.Environ()
	sort.Strings(environment)
	for _, variable := range environment {
		fmt.Println(variable)
	}
	for len(arguments) > 1 {
		switch arguments[0] {
		case "exit":
			code = number(arguments[1])
		case "sleep":
			time.Sleep(time.Duration(number(arguments[1])) * time.Second)
		case "cat":
			content, err := os.ReadFile(arguments[1])
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Stdout.Write(content)
		default:
			arguments = arguments[1:]
			continue
		}
		arguments = arguments[2:]
	}
	os.Exit(code)
}

func number(text string) int {
	value, err := strconv.Atoi(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return value
}
