package vfstest

var extraCases []testCase
