// This file lets widen.go declare a function without a body.
