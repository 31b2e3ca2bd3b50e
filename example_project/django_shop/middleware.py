"""Takes notes of each request for the panel below the pages."""

import sys

from django.core.signals import got_request_exception
from django.dispatch import receiver
from shop.notebook import remember_error, remember_request


def notebook_middleware(get_response):
    def middleware(request):
        remember_request()
        return get_response(request)

    return middleware


@receiver(got_request_exception)
def note_error(sender, request, **kwargs):
    remember_error(request.path, sys.exception())
