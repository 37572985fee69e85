#!/bin/sh
# SPDX-License-Identifier: MIT
# Thirty minutes of churn.c at a quarter of its working set. $1: other seconds.
exec sh "$(dirname "$0")/../churn.sh" "${1:-1800}"
