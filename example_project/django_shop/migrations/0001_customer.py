"""Create the one customer of the example."""

from django.contrib.auth.hashers import make_password
from django.db import migrations
from shop.api import PASSWORD, USERNAME


def create_customer(apps, schema_editor):
    user = apps.get_model("auth", "User")
    user.objects.create(username=USERNAME, password=make_password(PASSWORD))


class Migration(migrations.Migration):
    dependencies = [("auth", "0012_alter_user_first_name_max_length")]
    operations = [migrations.RunPython(create_customer, migrations.RunPython.noop)]
